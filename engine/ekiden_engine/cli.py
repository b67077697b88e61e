"""`ekiden-engine export|process|train|serve`: one entry point for every job that the image runs.

SageMaker starts training containers with the argument `train` and hosting containers with `serve`;
processing jobs name their whole entry point. Other arguments after the command are ignored, as SageMaker may
append some.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from ekiden_engine.errors import EngineError, ExitCode, is_out_of_memory
from ekiden_engine.log import log
from ekiden_engine.mlroot import MlRoot

COMMANDS: Final = {
    "export": "ekiden_engine.export",
    "process": "ekiden_engine.process",
    "train": "ekiden_engine.train",
    "serve": "ekiden_engine.serve",
}
"""Command to module; each module has `run(root: MlRoot) -> None`. Imported on demand: `export` must not pay
for torch."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code (`ExitCode`); failures also go to the failure
    files."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] not in COMMANDS:
        print(f"usage: ekiden-engine {{{'|'.join(COMMANDS)}}}", file=sys.stderr)  # noqa: T201
        return ExitCode.USAGE
    return run_command(given[0], MlRoot.from_environment())


def run_command(command: str, root: MlRoot) -> int:
    """Run `command` on `root`; turn what it raises into a log line, the failure files and an exit code."""
    started = time.monotonic()
    try:
        run: Callable[[MlRoot], None] = import_module(COMMANDS[command]).run
        run(root)
    except EngineError as error:
        return _fail(root, error.code, error.message, error.exit_code)
    except Exception as error:  # noqa: BLE001  the last line of defence: every job must leave a reason
        if is_out_of_memory(error):
            where = "" if isinstance(error, MemoryError) else " of the GPU"
            message = f"{command} ran out of memory{where}: take an instance type with more"
            return _fail(root, "OUT_OF_MEMORY", message, ExitCode.BAD_DATA)
        traceback.print_exc()
        message = f"{command}: {type(error).__name__}: {str(error)[:300]} (the log has the traceback)"
        return _fail(root, "INTERNAL_ERROR", message, ExitCode.INTERNAL)
    log(f"{command} done in {time.monotonic() - started:.1f} s")
    return ExitCode.OK


def _fail(root: MlRoot, code: str, message: str, exit_code: ExitCode) -> int:
    print(f"ERROR {code}: {message}", file=sys.stderr, flush=True)  # noqa: T201
    root.write_failure(code, message)
    return exit_code
