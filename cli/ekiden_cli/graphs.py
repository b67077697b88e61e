"""A spec and the local folder it may point to: read, checked against each other, uploaded.

What a local folder can tell about the spec is looked at before anything is uploaded: see ``graph_checks``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ekiden_cli.errors import CliError, Exit, usage

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import PipelineSpec

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
    """Read and check a spec (of a folder: its ``spec.yaml``) and the local graph it names.

    Raises ``CliError`` with every fault.
    """
    from ekiden.contracts.spec import SpecError, load_spec

    if path.is_dir():
        path /= "spec.yaml"
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
    if faults := _graph_faults(found, text):
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


def _csv_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.name.lower().endswith(_ENDINGS) or not path.is_file():
            continue
        if not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def _graph_faults(found: SpecFile, text: str) -> list[Fault]:
    from ekiden.contracts.base import Fault, shorten
    from ekiden_cli.graph_checks import FORMAT, Seen, faults, look

    source = "graph.source"
    if found.folder is None or not found.folder.is_dir():
        what = f"{shorten(found.spec.graph.source)} is neither an s3:// address nor a folder beside the spec"
        # The first lines of a spec may say how its graph is made.
        if made := re.search(r"^#\s+(ekiden (?:generate|import) .{1,150})$", text, re.MULTILINE):
            what += f"; the spec says how to make it: `{made[1]}`"
        return [Fault(source, what)]
    files = dict(found.files())
    missing: list[Fault] = []
    splits: set[str] = set()
    for number, target in enumerate(found.spec.targets):
        custom = target.custom_split_filenames
        for part, name in (custom.model_dump(exclude_none=True) if custom else {}).items():
            splits.add(name)
            if name not in files:
                path = f"targets[{number}].custom_split_filenames.{part}"
                missing.append(Fault(path, f"there is no file {shorten(name)} in the graph's folder"))
    seen = Seen()
    try:
        for name, file in files.items():
            if name not in splits:
                look(name, file, seen)
    except ValueError as error:
        return [*missing, Fault(source, str(error))]
    if not seen.nodes or not seen.edges:
        kind = "vertex" if not seen.nodes else "edge"
        return [*missing, Fault(source, f"no {kind} file with records in the folder. {FORMAT}")]
    return missing + list(faults(found.spec, seen))
