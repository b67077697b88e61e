"""The files of a custom model in a local folder: which they are, and whether a job can use them at all."""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekiden.contracts.base import Fault
    from ekiden.contracts.spec_model import Model
    from ekiden.contracts.tasks import Task

MAX_FILES = 1000
"""More than any model has: the folder is another one than was meant."""
_SHOWN = 8


def script_files(folder: Path, without: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
    """Yield ``(name relative to the folder, path)`` of what is uploaded, sorted.

    That is all files but hidden ones, what Python compiled, and what ``without`` names: the spec, and the folder of the
    graph where it lies within this one.
    """
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name != "__pycache__" and here / name not in without
        )
        for name in sorted(names):
            path = here / name
            if name[0] != "." and path.suffix != ".pyc" and path not in without and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def script_faults(model: Model, tasks: Sequence[Task], folder: Path, files: dict[str, Path]) -> Iterator[Fault]:
    """Yield what keeps a custom model from running: no folder, a script that is not there or is no Python, a
    configuration of the search that is missing or cannot be used for ``tasks``."""
    from ekiden.contracts.base import Fault, shorten

    given = shorten(str(model.source))
    if not folder.is_dir():
        yield Fault("model.source", f"{given} is neither an s3:// address nor a folder beside the spec")
        return
    if len(files) > MAX_FILES:
        message = f"{given} holds {len(files):,} files, more than {MAX_FILES:,}: give the scripts a folder of their own"
        yield Fault("model.source", message)
        return
    for option, name in zip(("training_entry_point", "transform_entry_point"), model.scripts, strict=True):
        if name not in files:
            yield Fault(f"model.{option}", _no_script(name, given, files))
        elif wrong := _syntax_error(files[name]):
            yield Fault(f"model.{option}", f"{name}{wrong}")
    yield from _search_faults(model, tasks, given, files)


def _search_faults(model: Model, tasks: Sequence[Task], given: str, files: dict[str, Path]) -> Iterator[Fault]:
    """Check what a search varies; without a search the file still says which lines of the log are metrics."""
    from ekiden.contracts.base import DocumentError, Fault
    from ekiden.contracts.hpo import HPO_FILE, HPO_NAMES, load_hpo
    from ekiden.contracts.hpo_names import model_faults

    search = model.search if model.searches_in else None
    name = next((name for name in HPO_NAMES if name in files), None)
    if name is None:
        if search is not None:
            message = f"of a custom model needs {HPO_FILE} in {given}: it says what is varied (docs/hpo.md)"
            yield Fault("model.search", message)
        return
    try:
        space = load_hpo(files[name].read_bytes(), name)
    except DocumentError as error:
        for fault in error.faults:
            yield Fault("model.source", f"{name}: {fault}")
        return
    except OSError as error:
        yield Fault("model.source", f"{name} cannot be read: {error.strerror}")
        return
    if search is None:
        return
    for fault in model_faults(space.model, tasks):
        yield Fault("model.source", f"{name}: {fault}")
    if not space.tuned(search.jobs):
        message = f"no tier of {name} that {search.jobs} jobs search has a hyper-parameter to vary"
        yield Fault("model.search.jobs", message)


def _no_script(name: str, given: str, files: dict[str, Path]) -> str:
    from ekiden.contracts.base import shorten

    there = [file for file in files if file.endswith(".py")]
    message = f"there is no file {shorten(name)} in {given}"
    if near := difflib.get_close_matches(name, there, n=1):
        return f"{message}; did you mean {shorten(near[0])}?"
    shown = ", ".join(map(shorten, there[:_SHOWN])) + (", …" if len(there) > _SHOWN else "")
    return f"{message}; it has {shown or 'no .py file'}"


def _syntax_error(path: Path) -> str:
    """Return where and why the file is no Python, to follow its name; empty if it is."""
    try:
        ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"{f', line {error.lineno}' if error.lineno else ''}: {error.msg[:150]}"
    except ValueError as error:
        return f": {str(error)[:150]}"
    except OSError as error:
        return f" cannot be read: {error.strerror}"
    return ""
