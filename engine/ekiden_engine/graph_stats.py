"""What an export contains, counted: the shape that `stats.json` and the feature inference are made from.

`stats.json` has the form of `ExportStats.toJson` in github.com/aws/neptune-export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ekiden_engine.gremlin_csv import Property, ValueType


@dataclass(slots=True)
class PropertyStats:
    """One property of one type: records that have it, values in them, and the type they were declared
    with."""

    type: ValueType
    multiple: bool
    records: int = 0
    values: int = 0
    min_values: int = 0
    max_values: int = 0

    def add(self, column: pa.ChunkedArray, declared: Property) -> None:
        """Count a column of text."""
        present = len(column) - column.null_count
        if not present:
            return
        fewest, most, total = 1, 1, present
        if declared.multiple:
            counts = pc.add(pc.subtract(pc.count_substring(column, ";"), pc.count_substring(column, "\\;")), 1)
            fewest, most, total = pc.min(counts).as_py(), pc.max(counts).as_py(), pc.sum(counts).as_py()
        self.min_values = fewest if not self.records else min(fewest, self.min_values)
        self.max_values = max(most, self.max_values)
        self.records += present
        self.values += total
        self.multiple |= declared.multiple
        self.type = _common(self.type, declared.type)

    def to_json(self, name: str, of: int) -> dict[str, Any]:
        """The exporter's form; `of`: rows of the type."""
        return {
            "name": name,
            "count": self.records,
            "numberOfRecords": self.values,
            "minCardinality": self.min_values,
            "maxCardinality": self.max_values,
            "isNullable": self.records < of,
            "dataTypes": {"inferred": str(self.type), "counts": [{str(self.type): self.records}]},
        }


@dataclass(slots=True)
class TypeStats:
    """One node or edge type: rows, and its properties in the order in which they were first seen."""

    count: int = 0
    properties: dict[str, PropertyStats] = field(default_factory=dict)

    def add(self, table: pa.Table, declared: Iterable[Property]) -> pa.Table:
        """Count the rows of `table`; return it without the properties that none of its rows has."""
        self.count += table.num_rows
        empty = []
        for item in declared:
            column = table[item.name]
            if column.null_count == table.num_rows:
                empty.append(item.name)
                continue
            stats = self.properties.setdefault(item.name, PropertyStats(item.type, item.multiple))
            stats.add(column, item)
        return table.drop_columns(empty) if empty else table

    def to_json(self, description: str, labels: object) -> dict[str, Any]:
        """The exporter's form."""
        return {
            "description": description,
            "labels": labels,
            "count": self.count,
            "properties": [stats.to_json(name, self.count) for name, stats in self.properties.items()],
        }


EdgeType = tuple[str, str, str]


def edge_text(edge_type: EdgeType) -> str:
    """`(source)-relation-(dest)`, as Neptune-Export names edge types and files."""
    return f"({edge_type[0]})-{edge_type[1]}-({edge_type[2]})"


def stats_document(nodes: Mapping[str, TypeStats], edges: Mapping[EdgeType, TypeStats]) -> dict[str, Any]:
    """The content of `stats.json`."""
    everything = [*nodes.values(), *edges.values()]
    return {
        "stats": {
            "nodes": sum(stats.count for stats in nodes.values()),
            "edges": sum(stats.count for stats in edges.values()),
            "properties": sum(p.records for stats in everything for p in stats.properties.values()),
            "details": {
                "nodes": [nodes[label].to_json(label, label.split(";")) for label in sorted(nodes)],
                "edges": [
                    edges[e].to_json(edge_text(e), {"from": e[0].split(";"), "edge": [e[1]], "to": e[2].split(";")})
                    for e in sorted(edges)
                ],
            },
        }
    }


_WIDTH = [
    ValueType.BYTE,
    ValueType.SHORT,
    ValueType.INTEGER,
    ValueType.LONG,
    ValueType.FLOAT,
    ValueType.DOUBLE,
]


def _common(one: ValueType, other: ValueType) -> ValueType:
    """The type that holds both: files may declare one property differently."""
    if one is other:
        return one
    if one.is_number and other.is_number:
        return max(one, other, key=_WIDTH.index)
    return ValueType.STRING
