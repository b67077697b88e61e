"""The spec held against the graph, and the `training-data-configuration.json` that follows from both."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ekiden.contracts.spec import Feature, PipelineSpec
from ekiden.contracts.spec_targets import Target
from ekiden.contracts.training_data import (
    DATETIME_PARTS,
    CustomSplitFiles,
    EdgeFileConfig,
    FeatureConfig,
    GraphConfig,
    LabelConfig,
    NodeFileConfig,
    TrainingDataConfiguration,
)
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features.vectors_file import VECTORS_FOLDER
from ekiden_engine.graph_stats import EdgeType, PropertyStats, TypeStats, edge_text
from ekiden_engine.gremlin_csv import ValueType

SPLITS_FOLDER = "splits"
"""Folder of an export that holds copies of the custom split files."""

VALUE_SEPARATOR = ";"
"""Between the values of a set or list, in Gremlin CSV and in what Neptune-Export writes."""

SEPARABLE: Final = ("auto", "category", "none", "numerical")
"""Types of features that take several values in a cell."""


@dataclass(frozen=True, slots=True)
class GraphShape:
    """Node types and edge types with their counts and properties."""

    nodes: Mapping[str, TypeStats]
    edges: Mapping[EdgeType, TypeStats]


def split_files(spec: PipelineSpec) -> list[str]:
    """Custom split files that the spec names, relative to the graph's folder, each once."""
    names: dict[str, None] = {}
    for target in spec.predicts:
        if (files := target.custom_split_filenames) is not None:
            names |= {name: None for name in (files.train, files.valid, files.test) if name is not None}
    return list(names)


def check_spec(spec: PipelineSpec, shape: GraphShape) -> None:
    """Raise `BadData` UNKNOWN_LABEL or UNKNOWN_PROPERTY for the first target or feature that the graph lacks."""
    for index, target in enumerate(spec.targets):
        where = f"targets[{index}]"
        if target.node is None and target.edge is None:
            continue
        found = _edge(shape, target.edge, where) if target.edge is not None else _node(shape, target.node or "", where)
        if target.property is not None:
            _check_property(where, target.property, target.subject, found)
    for index, feature in enumerate(spec.features):
        where = f"features[{index}]"
        if feature.edge is not None:
            found, label = _edge(shape, feature.edge, where), edge_text(feature.edge)
        else:
            label = feature.node or ""
            found = _node(shape, label, where)
        _check_property(where, feature.property, label, found)


def build_configuration(
    spec: PipelineSpec, shape: GraphShape, node_files: Mapping[str, str], edge_files: Mapping[EdgeType, str]
) -> TrainingDataConfiguration:
    """The configuration of the exported files.

    Properties that the spec does not name get the exporter's own inference (`FeatureConfig` for
    single-valued numbers and dates); what that cannot encode is left out with a warning. Edge types get none: few
    models use properties of edges, and those of a target's type nobody knows for a pair still to be scored.
    """
    warnings: list[str] = []
    nodes = []
    for label, file in node_files.items():
        named = [f for f in spec.features if f.node == label]
        targets = [t for t in spec.predicts if t.node == label]
        taken: set[str | None] = {*(f.property for f in named), *(t.property for t in targets)}
        features = (
            *_named(named, shape.nodes[label]),
            *_inferred(taken, shape.nodes[label], label, warnings),
        )
        nodes.append(
            NodeFileConfig(
                file_name=file,
                node=("~id", label),
                features=features,
                labels=tuple(_label(target) for target in targets),
            )
        )
    edges = []
    for edge_type, file in edge_files.items():
        named = [f for f in spec.features if f.edge == edge_type]
        targets = [t for t in spec.predicts if t.node is None and t.edge in (edge_type, None)]
        features = _named(named, shape.edges[edge_type])
        taken = {*(f.property for f in named), *(t.property for t in targets)}
        warnings += [
            f"{edge_text(edge_type)[:80]}.{name[:80]} is not used: features must name a property of edges"
            for name in shape.edges[edge_type].properties
            if name not in taken
        ]
        source, relation, dest = edge_type
        edges.append(
            EdgeFileConfig(
                file_name=file,
                source=("~from", source),
                relation=("", relation),
                dest=("~to", dest),
                features=features,
                labels=tuple(_label(target) for target in targets),
            )
        )
    return TrainingDataConfiguration(
        graph=GraphConfig(nodes=tuple(nodes), edges=tuple(edges)), warnings=tuple(warnings)
    )


def _label(target: Target) -> LabelConfig:
    files = target.custom_split_filenames
    label = (target.property or "", target.type)  # of links, the first is empty in Neptune-Export too
    if files is None:
        return LabelConfig(label=label, split_rate=target.split, separator=target.separator)
    names = {
        part: f"{SPLITS_FOLDER}/{name}"
        for part, name in (("train", files.train), ("valid", files.valid), ("test", files.test))
        if name is not None
    }
    splits = CustomSplitFiles.model_validate(names)
    return LabelConfig(label=label, custom_split_filenames=splits, separator=target.separator)


def _named(features: Iterable[Feature], stats: TypeStats) -> tuple[FeatureConfig, ...]:
    configured = []
    for feature in features:
        options = feature.model_dump(exclude={"node", "edge", "property", "type"}, exclude_none=True)
        if stats.properties[feature.property].multiple and feature.type in SEPARABLE:
            options.setdefault("separator", VALUE_SEPARATOR)
        if "vectors" in options:
            options["vectors"] = f"{VECTORS_FOLDER}/{options['vectors']}"
        name = feature.property
        configured.append(FeatureConfig.model_validate({"feature": (name, name, feature.type), **options}))
    return tuple(configured)


def _inferred(
    taken: Collection[str | None], stats: TypeStats, label: str, warnings: list[str]
) -> tuple[FeatureConfig, ...]:
    configured = []
    for name, found in stats.properties.items():
        if name in taken:
            continue
        feature = _infer(name, found)
        if feature is not None:
            configured.append(feature)
            continue
        what = "text becomes no feature by itself; name it under features to use it (type: auto chooses the encoding)"
        if found.type is ValueType.DATE:
            what = "several dates in a cell are no feature"
        warnings.append(f"{label[:80]}.{name[:80]} ({found.type}) is not used: {what}")
    return tuple(configured)


def _infer(name: str, found: PropertyStats) -> FeatureConfig | None:
    """Neptune-Export's inference, but for single-valued text, which it makes `auto` too: names, addresses and links
    would each cost a model a hundred columns."""
    separator = VALUE_SEPARATOR if found.multiple else None
    if found.type is ValueType.DATE:
        if found.multiple:
            return None
        return FeatureConfig(feature=(name, name, "datetime"), datetime_parts=DATETIME_PARTS)
    if found.type.is_number and not found.multiple:
        return FeatureConfig(feature=(name, name, "numerical"), norm="min-max", imputer="median")
    if found.type.is_number:
        return FeatureConfig(feature=(name, name, "auto"), imputer="median", separator=separator)
    if found.multiple or found.type is ValueType.BOOLEAN:
        return FeatureConfig(feature=(name, name, "auto"), separator=separator)
    return None


def _node(shape: GraphShape, label: str, where: str) -> TypeStats:
    if label not in shape.nodes:
        raise BadData("UNKNOWN_LABEL", f"{where}.node: no vertex is labelled {_choice(label, shape.nodes)}")
    return shape.nodes[label]


def _edge(shape: GraphShape, edge: EdgeType, where: str) -> TypeStats:
    if edge not in shape.edges:
        known = [edge_text(e) for e in shape.edges]
        raise BadData("UNKNOWN_LABEL", f"{where}.edge: no edge is of type {_choice(edge_text(edge), known)}")
    return shape.edges[edge]


def _check_property(where: str, name: str, label: str, stats: TypeStats) -> None:
    if name not in stats.properties:
        raise BadData(
            "UNKNOWN_PROPERTY",
            f"{where}.property: {quoted(label)} has no property {_choice(name, stats.properties)}",
        )


def _choice(wrong: str, known: Iterable[str]) -> str:
    """The wrong name, the nearest right one, and what there is."""
    names = list(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    if not near:
        near = [name for name in names if name.casefold() == wrong.casefold()]
    hint = f" (did you mean {quoted(near[0])}?)" if near else ""
    listed = ", ".join(quoted(name[:60]) for name in names[:12]) or "none"
    return f"{quoted(wrong)}{hint}; it has {listed}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
