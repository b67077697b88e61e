"""A spec and the local folders it may point to: read and checked against each other.

What a local folder can tell about the spec is looked at before anything is uploaded: see ``graph_checks`` for the
graph, ``graph_files`` for the files that the spec names in its folder, ``scripts`` for a custom model's files.
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
    from ekiden.contracts.spec_parts import SpecParts


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
        named = {file.name: self.folder / file.name for file in named_files(self.spec.parts)}
        there = {name: path for name, path in named.items() if path.is_file()}
        return sorted((dict(csv_files(self.folder)) | there).items())

    def script_files(self) -> list[tuple[str, Path]]:
        """Return ``(name relative to the folder, path)`` of each file of a local custom model, sorted."""
        return [] if self.scripts is None else list(_script_files(self.path, self.folder, self.scripts))


def read_spec(path: Path) -> SpecFile:
    """Read and check a spec (of a folder: its ``spec.yaml``) and the local folders it names.

    What is right is checked against the folders although other parts are wrong. Raises ``CliError`` with every fault.
    """
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec import SpecError, load_spec
    from ekiden_cli.scripts import script_faults

    if path.is_dir():
        path /= "spec.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise usage(f"{path} is not UTF-8 text", "a spec is a YAML file") from None
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}", "`ekiden generate` writes a spec to start from") from None
    spec, faults = None, list[Fault]()
    try:
        spec = load_spec(text, allow_local_source=True)
        parts = spec.parts
    except SpecError as error:
        faults = list(error.faults)
        parts = _parts(path, text, faults)
    folder, scripts = _local(path, parts.source), _local(path, parts.model.source if parts.model else None)
    if folder:
        faults += _graph_faults(parts, folder, text)
    if parts.model and scripts:
        files = dict(_script_files(path, folder, scripts))
        faults += script_faults(parts.model, [t.task for t in parts.asked.values()], scripts, files)
    if spec is None or faults:
        raise _invalid(path, faults)
    return SpecFile(path, spec, folder, scripts)


def _parts(path: Path, text: str, faults: list[Fault]) -> SpecParts:
    """Return what is right in a spec that has faults: it is held against the folders all the same."""
    from ekiden.contracts.spec import SpecError
    from ekiden.contracts.spec_parts import parts_of
    from ekiden.contracts.yaml_text import load_yaml

    try:
        return parts_of(load_yaml(text), allow_local_source=True)
    except SpecError:
        raise _invalid(path, faults) from None


def _script_files(path: Path, folder: Path | None, scripts: Path) -> Iterator[tuple[str, Path]]:
    from ekiden_cli.scripts import script_files

    return script_files(scripts, without=(path.resolve(), *([folder] if folder else [])))


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


def _graph_faults(parts: SpecParts, folder: Path, text: str) -> list[Fault]:
    from ekiden.contracts.base import Fault, shorten
    from ekiden_cli.graph_checks import FORMAT, Seen, faults, look
    from ekiden_cli.graph_files import csv_files, file_faults, named_files

    source = "graph.source"
    if not folder.is_dir():
        what = f"{shorten(parts.source)} is neither an s3:// address nor a folder beside the spec"
        # The first lines of a spec may say how its graph is made.
        if made := re.search(r"^#\s+(ekiden (?:generate|import) .{1,150})$", text, re.MULTILINE):
            what += f"; the spec says how to make it: `{made[1]}`"
        return [Fault(source, what)]
    named = named_files(parts)
    found = list(file_faults(named, folder))
    others = {file.name for file in named}
    seen, unreadable = Seen(), list[Fault]()
    for name, file in csv_files(folder):
        try:
            if name not in others:
                look(name, file, seen)
        except ValueError as error:
            unreadable.append(Fault(source, str(error)))
    if unreadable:  # what the spec names may be in there
        return found + unreadable
    if not seen.nodes or not seen.edges:
        kind = "vertex" if not seen.nodes else "edge"
        return [*found, Fault(source, f"no {kind} file with records in the folder. {FORMAT}")]
    return found + faults(parts, seen)
