"""Whole fits among the checkpoints: a finished target, or the best trial of a search so far.

fit/fit.json         how it went: curves, hyperparameters, trials, and what the caller adds
    manifest.json    SHA-256 of the files
    …                the predictor's own files
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.log import log
from ekiden_engine.manifest import check_manifest, write_manifest
from ekiden_engine.models import predictor_class
from ekiden_engine.models.base import Fit, curve_of

FIT_FILE: Final = "fit.json"


def save_fit(checkpoints: Checkpoints, name: str, fit: Fit) -> None:
    """Keep `fit` as the folder `name`."""
    document = {
        "fingerprint": checkpoints.fingerprint,
        "seconds": checkpoints.seconds,
        "predictor": fit.predictor.kind,
        "curves": [asdict(curve) for curve in fit.curves],
        "hyperparameters": dict(fit.hyperparameters),
        "stopped": fit.stopped,
        "threads": fit.threads,
        "device": fit.device,
        "trials": [dict(trial) for trial in fit.trials],
    }

    def write(folder: Path) -> None:
        fit.predictor.save(folder)
        (folder / FIT_FILE).write_text(json.dumps(document), "utf-8")
        write_manifest(folder)

    checkpoints.save_folder(name, write)


def load_fit(checkpoints: Checkpoints, name: str) -> Fit | None:
    """What `save_fit` kept; None, with a line in the log, if it is incomplete or of another training."""
    folder = checkpoints.folder(name)
    if folder is None or not folder.is_dir():
        return None
    try:
        check_manifest(folder)
        document = json.loads((folder / FIT_FILE).read_bytes())
        if document["fingerprint"] != checkpoints.fingerprint:
            raise ValueError("it belongs to another training")
        fit = Fit(
            predictor=predictor_class(document["predictor"]).load(folder),
            curves=tuple(curve_of(curve) for curve in document["curves"]),
            hyperparameters=document["hyperparameters"],
            stopped=document["stopped"],
            threads=document["threads"],
            device=document["device"],
            trials=tuple(document["trials"]),
        )
    except (BadData, OSError, ValueError, KeyError, TypeError) as error:
        log(f"checkpoint {name} ignored: {str(error)[:200]}")
        return None
    checkpoints.add_seconds(document["seconds"])
    return fit
