"""A spec and the local folder it may point to: read, checked against each other, uploaded.

Files are checked by their headers and their ``~label`` column only: enough to name an unknown label or
property before anything is uploaded or paid for. The engine's export checks the rest (dangling edges,
duplicate ids, values).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekiden_cli.errors import CliError, Exit, usage

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import PipelineSpec

_FORMAT = "Gremlin CSV: vertex files have ~id,~label; edge files ~from,~to,~label"
_ENDINGS = (".csv", ".csv.gz")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec read from ``path``; ``folder`` is the local graph, ``None`` if the graph is in S3 already."""

    path: Path
    spec: PipelineSpec
    folder: Path | None

    def files(self) -> list[tuple[str, Path]]:
        """Return ``(name relative to the folder, path)`` of each CSV file of the local graph, sorted."""
        return list(_csv_files(self.folder)) if self.folder else []


def read_spec(path: Path) -> SpecFile:
    """Read and check a spec and the local folder it names. Raises ``CliError`` with every fault."""
    from ekiden.contracts.spec import SpecError, load_spec

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise usage(f"{path} is not UTF-8 text", "a spec is a YAML file") from None
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}", "`ekiden generate` writes a spec to start from") from None
    try:
        spec = load_spec(text, allow_local_source=True)
    except SpecError as error:
        raise _invalid(path, list(error.faults)) from None
    if spec.graph.source.startswith("s3://"):
        return SpecFile(path, spec, None)
    folder = (path.parent / spec.graph.source).resolve()
    found = SpecFile(path, spec, folder)
    if faults := _graph_faults(found):
        raise _invalid(path, faults)
    return found


def _invalid(path: Path, faults: list[Fault]) -> CliError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return CliError(
        f"{path}: {count}",
        hint="correct the spec, then `ekiden validate` it again",
        exit_code=Exit.USAGE,
        code="INVALID_SPEC",
        faults=[(fault.path, fault.message) for fault in faults],
    )


# -- what a folder holds


@dataclass(slots=True)
class _Seen:
    """Properties by label, as headers and label columns tell."""

    nodes: dict[str, set[str]] = field(default_factory=dict)
    edges: dict[str, set[str]] = field(default_factory=dict)


def _csv_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.name.lower().endswith(_ENDINGS) or not path.is_file():
            continue
        if not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def _graph_faults(found: SpecFile) -> list[Fault]:
    from ekiden.contracts.base import Fault, shorten

    source = "graph.source"
    if found.folder is None or not found.folder.is_dir():
        what = f"{shorten(found.spec.graph.source)} is neither an s3:// address nor a folder beside the spec"
        return [Fault(source, what)]
    files = dict(found.files())
    faults: list[Fault] = []
    splits: set[str] = set()
    for number, target in enumerate(found.spec.targets):
        custom = target.custom_split_filenames
        for part, name in (custom.model_dump(exclude_none=True) if custom else {}).items():
            splits.add(name)
            if name not in files:
                path = f"targets[{number}].custom_split_filenames.{part}"
                faults.append(Fault(path, f"there is no file {shorten(name)} in the graph's folder"))
    seen = _Seen()
    try:
        for name, file in files.items():
            if name not in splits:
                _look(name, file, seen)
    except ValueError as error:
        return [*faults, Fault(source, str(error))]
    if not seen.nodes or not seen.edges:
        kind = "vertex" if not seen.nodes else "edge"
        return [*faults, Fault(source, f"no {kind} file with records in the folder. {_FORMAT}")]
    return faults + list(_unknown(found.spec, seen))


def _look(name: str, path: Path, seen: _Seen) -> None:
    from ekiden_cli.delimited import header_of

    header = header_of(path, ",")
    ends = {"~from", "~to"} & set(header)
    if "~label" not in header or len(ends) == 1 or (not ends and "~id" not in header):
        raise ValueError(f"{name} has the header {','.join(header)[:80]!r}. {_FORMAT}")
    properties = {column.partition(":")[0] for column in header if not column.startswith("~")}
    by_label = seen.edges if ends else seen.nodes
    for label in _labels(name, path):
        by_label.setdefault(label, set()).update(properties)


def _labels(name: str, path: Path) -> set[str]:
    """Return the distinct labels in a file; a vertex may have several, separated by ``;``."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    labels: set[str] = set()
    convert = pacsv.ConvertOptions(include_columns=["~label"], column_types={"~label": pa.string()})
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        with pacsv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                labels.update(pc.unique(batch.column(0)).to_pylist())
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0][:150]}") from None
    return {part for label in labels if label for part in label.split(";")}


def _unknown(spec: PipelineSpec, seen: _Seen) -> Iterator[Fault]:
    from ekiden.contracts.base import Fault

    def edge(path: str, triple: tuple[str, str, str], name: str) -> Iterator[Fault]:
        source, label, dest = triple
        for position, node in ((0, source), (2, dest)):
            if node not in seen.nodes:
                yield Fault(f"{path}.edge[{position}]", _no("node label", node, seen.nodes))
        if label not in seen.edges:
            yield Fault(f"{path}.edge[1]", _no("edge label", label, seen.edges))
        elif name not in seen.edges[label]:
            yield Fault(f"{path}.property", _no(f"property of edge {label!r}", name, seen.edges[label]))

    for number, target in enumerate(spec.targets):
        yield from edge(f"targets[{number}]", target.edge, target.property)
    for number, feature in enumerate(spec.features):
        path = f"features[{number}]"
        if feature.edge is not None:
            yield from edge(path, feature.edge, feature.property)
        elif feature.node not in seen.nodes:
            yield Fault(f"{path}.node", _no("node label", str(feature.node), seen.nodes))
        elif feature.property not in seen.nodes[feature.node]:
            known = seen.nodes[feature.node]
            yield Fault(f"{path}.property", _no(f"property of node {feature.node!r}", feature.property, known))


def _no(what: str, name: str, known: Any) -> str:
    from ekiden.contracts.base import shorten

    near = difflib.get_close_matches(name, list(known), n=1)
    if near:
        return f"the graph has no {what} {shorten(name)}; did you mean {shorten(near[0])}?"
    return f"the graph has no {what} {shorten(name)}; it has {', '.join(sorted(known))[:120] or 'none'}"
