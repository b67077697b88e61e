"""A spec and the local folders it may point to: read and checked against each other.

What a local folder can tell about the spec is looked at before anything is uploaded: see ``graph_checks`` for the
graph, ``graph_files`` for the files that the spec names in its folder, ``scripts`` for a custom model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ekiden_cli.errors import CliError, Exit, usage

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import PipelineSpec


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A spec read from ``path``; ``folder`` is the local graph and ``scripts`` the local folder of a custom model.

    They are ``None`` if the graph, or the model's scripts, are in S3 already or there are none.
    """

    path: Path
    spec: PipelineSpec
    folder: Path | None
    scripts: Path | None = None

    def files(self) -> list[tuple[str, Path]]:
        """Return ``(name relative to the folder, path)`` of each file of the local graph that is uploaded, sorted.

        CSV files, and what the spec names: vectors and custom splits.
        """
        from ekiden_cli.graph_files import csv_files, named_files

        if self.folder is None:
            return []
        named = {file.name: self.folder / file.name for file in named_files(self.spec)}
        there = {name: path for name, path in named.items() if path.is_file()}
        return sorted((dict(csv_files(self.folder)) | there).items())

    def script_files(self) -> list[tuple[str, Path]]:
        """Return ``(name relative to the folder, path)`` of each file of a local custom model, sorted."""
        from ekiden_cli.scripts import script_files

        if self.scripts is None:
            return []
        others = (self.path.resolve(), *([self.folder] if self.folder else []))
        return list(script_files(self.scripts, without=others))


def read_spec(path: Path) -> SpecFile:
    """Read and check a spec (of a folder: its ``spec.yaml``) and the local folders it names.

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
    found = SpecFile(path, spec, _local(path, spec.graph.source), _local(path, spec.model.source))
    faults = _graph_faults(found, text) if found.folder else []
    if found.scripts:
        from ekiden_cli.scripts import script_faults

        faults += script_faults(spec.model, found.scripts, dict(found.script_files()))
    if faults:
        raise _invalid(path, faults)
    return found


def _local(path: Path, source: str | None) -> Path | None:
    """Return the folder that a spec at ``path`` means; ``None`` if it means none of this machine."""
    return None if source is None or source.startswith("s3://") else (path.parent / source).resolve()


def _invalid(path: Path, faults: list[Fault]) -> CliError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return CliError(
        f"{path}: {count}",
        hint="correct the spec, then `ekiden validate` it again",
        exit_code=Exit.USAGE,
        code="INVALID_SPEC",
        faults=[(fault.path, fault.message) for fault in faults],
    )


def _graph_faults(found: SpecFile, text: str) -> list[Fault]:
    from ekiden.contracts.base import Fault, shorten
    from ekiden_cli.graph_checks import FORMAT, Seen, faults, look
    from ekiden_cli.graph_files import csv_files, file_faults, named_files

    source = "graph.source"
    if found.folder is None or not found.folder.is_dir():
        what = f"{shorten(found.spec.graph.source)} is neither an s3:// address nor a folder beside the spec"
        # The first lines of a spec may say how its graph is made.
        if made := re.search(r"^#\s+(ekiden (?:generate|import) .{1,150})$", text, re.MULTILINE):
            what += f"; the spec says how to make it: `{made[1]}`"
        return [Fault(source, what)]
    named = named_files(found.spec)
    found_faults = list(file_faults(named, found.folder))
    others = {file.name for file in named}
    seen = Seen()
    try:
        for name, file in csv_files(found.folder):
            if name not in others:
                look(name, file, seen)
    except ValueError as error:
        return [*found_faults, Fault(source, str(error))]
    if not seen.nodes or not seen.edges:
        kind = "vertex" if not seen.nodes else "edge"
        return [*found_faults, Fault(source, f"no {kind} file with records in the folder. {FORMAT}")]
    return found_faults + list(faults(found.spec, seen))
