"""The folders that SageMaker gives a container, below one root: `/opt/ml`, or `EKIDEN_ML_ROOT` if jobs share
a machine.

Layout: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
and https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ekiden_engine.errors import BadData

DEFAULT_ROOT = "/opt/ml"
ROOT_VARIABLE = "EKIDEN_ML_ROOT"
MAX_FAILURE_CHARACTERS = 1024
"""SageMaker keeps this much of a failure file (`FailureReason`) and of a message file (`ExitMessage`)."""


@dataclass(frozen=True, slots=True)
class MlRoot:
    """Paths of one job. Nothing is created until it is written."""

    root: Path

    @classmethod
    def from_environment(cls) -> MlRoot:
        """The root named by `EKIDEN_ML_ROOT`, else `/opt/ml`."""
        return cls(Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT))

    def processing_input(self, name: str) -> Path:
        """Folder of a processing job's input `name`."""
        return self.root / "processing" / "input" / name

    def processing_output(self, name: str) -> Path:
        """Folder of a processing job's output `name`."""
        return self.root / "processing" / "output" / name

    def channel(self, name: str) -> Path:
        """Folder of a training job's input channel `name`."""
        return self.root / "input" / "data" / name

    @property
    def model(self) -> Path:
        """Where training leaves the model, and where serving finds it."""
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        """Where training keeps what a later start needs; there only for a job that was told to (`CheckpointConfig`)."""
        return self.root / "checkpoints"

    @property
    def failure(self) -> Path:
        """The file whose text becomes a training job's `FailureReason`."""
        return self.root / "output" / "failure"

    @property
    def message(self) -> Path:
        """The file whose text becomes a processing job's `ExitMessage`."""
        return self.root / "output" / "message"

    def hyperparameters(self) -> dict[str, str]:
        """Hyperparameters of a training job (string to string); empty if the platform wrote none.

        Raises `BadData` BAD_HYPERPARAMETERS if the file is not a JSON object.
        """
        path = self.root / "input" / "config" / "hyperparameters.json"
        if not path.is_file():
            return {}
        try:
            document = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise BadData("BAD_HYPERPARAMETERS", f"hyperparameters.json is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise BadData("BAD_HYPERPARAMETERS", "hyperparameters.json must hold one JSON object of strings")
        return {str(key): str(value) for key, value in document.items()}

    def write_failure(self, code: str, message: str) -> None:
        """Write `CODE: message` where training and processing jobs look for it.

        A disk that refuses the file must not hide the error it was to tell, so an `OSError` here is dropped;
        the log line has it.
        """
        text = f"{code}: {message}"
        if len(text) > MAX_FAILURE_CHARACTERS:
            text = text[: MAX_FAILURE_CHARACTERS - 1] + "…"
        for path in (self.failure, self.message):
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
