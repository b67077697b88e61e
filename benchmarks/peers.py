"""Interpreters for peers: throw-away virtual environments, so that the project need not agree with their pins."""

from __future__ import annotations

import json
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def make_environment(
    folder: Path, packages: Sequence[str], imports: Sequence[str], *, sees_ours: bool = False
) -> Path | str:
    """The Python of a virtual environment with `packages`, in which `imports` work; or why there is none.

    `sees_ours`: the packages of this interpreter too.
    """
    python = folder / "bin" / "python"
    try:
        venv.create(folder, with_pip=True)
        if sees_ours:
            library = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
            lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
            (library / "project.pth").write_text("\n".join(lines) + "\n", "utf-8")
        install = [str(python), "-m", "pip", "install", "-qq", "--only-binary", ":all:", *packages]
        for command in (install, [str(python), "-c", f"import {', '.join(imports)}"]):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd[1:4])} failed: {(error.stderr or '').strip().splitlines()[-1:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    return python


def run_module(python: Path, module: str, arguments: Sequence[str | Path]) -> Any:
    """Run `python -m module arguments` and give the JSON that its last line is. Raises `CalledProcessError`."""
    command = [str(python), "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
    return json.loads(done.stdout.strip().splitlines()[-1])
