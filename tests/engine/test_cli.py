"""`ekiden-engine`: commands, exit codes, and the files that tell the platform why a job failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ekiden_engine import cli
from ekiden_engine.cli import main, run_command
from ekiden_engine.errors import BadData, ExitCode, Temporary, quoted
from ekiden_engine.mlroot import MlRoot


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == ExitCode.USAGE
    assert main([]) == ExitCode.USAGE
    assert "export|process|train|serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadData("EMPTY_GRAPH", "no vertex"), 65, "EMPTY_GRAPH: no vertex"),
        (Temporary("DISK_BUSY", "later"), 75, "DISK_BUSY: later"),
        (MemoryError(), 65, "OUT_OF_MEMORY: export ran out of memory: take"),
        (torch.OutOfMemoryError("CUDA out of memory"), 65, "OUT_OF_MEMORY: export ran out of memory of the GPU: take"),
        (RuntimeError("boom"), 1, "INTERNAL_ERROR: export: RuntimeError: boom"),
    ],
)
def test_every_failure_leaves_code_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, text: str
) -> None:
    # GIVEN a command that fails
    def fail(root: MlRoot) -> None:
        raise error

    monkeypatch.setattr("ekiden_engine.export.run", fail)
    # WHEN it runs
    root = MlRoot(tmp_path)
    # THEN exit code and both files tell it
    assert run_command("export", root) == code
    assert root.failure.read_text().startswith(text)
    assert root.message.read_text() == root.failure.read_text()


def test_a_long_reason_is_cut_to_what_the_platform_keeps(tmp_path: Path) -> None:
    root = MlRoot(tmp_path)
    root.write_failure("X", "y" * 5000)
    assert len(root.failure.read_text()) == 1024


def test_the_module_runs_as_a_process_on_the_root_of_its_environment(tmp_path: Path) -> None:
    # GIVEN an empty job tree
    environment = {**os.environ, "EKIDEN_ML_ROOT": str(tmp_path)}
    # WHEN the engine is started as the platform starts it
    done = subprocess.run(
        [sys.executable, "-m", "ekiden_engine", "export"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # THEN it ends as bad data, saying what is missing
    assert done.returncode == 65
    assert (tmp_path / "output/failure").read_text() == "BAD_SPEC: the job has no spec.json in its spec input"


def test_exporting_does_not_load_torch() -> None:
    probe = "import sys, ekiden_engine.cli, ekiden_engine.export, ekiden_engine.process; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_hyperparameters_are_read_as_strings_and_may_be_absent(tmp_path: Path) -> None:
    root = MlRoot(tmp_path)
    assert root.hyperparameters() == {}
    path = tmp_path / "input/config/hyperparameters.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"lr": "0.01", "seed": 3}')
    assert root.hyperparameters() == {"lr": "0.01", "seed": "3"}
    path.write_text("[]")
    with pytest.raises(BadData, match="JSON object"):
        root.hyperparameters()


def test_the_root_is_opt_ml_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EKIDEN_ML_ROOT", raising=False)
    assert MlRoot.from_environment().root == Path("/opt/ml")
    monkeypatch.setenv("EKIDEN_ML_ROOT", "/somewhere")
    assert MlRoot.from_environment().channel("spec") == Path("/somewhere/input/data/spec")


def test_untrusted_text_is_quoted_short_and_printable() -> None:
    assert quoted("a\nb") == '"a\\x0ab"'
    assert len(quoted("x" * 1000)) < 130


def test_every_command_has_a_module() -> None:
    assert set(cli.COMMANDS) == {"export", "process", "train", "serve"}
