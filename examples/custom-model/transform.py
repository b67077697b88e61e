"""Writes what the training script left in SM_MODEL_DIR as a vector per node, so that the engine can serve it.

The engine's prediction is the inner product of both ends' vectors. The mean of all ratings rides in a column of its
own: it is the source's value there, and 1 is the destination's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


def main() -> None:
    """EKIDEN_TARGET names the node types at both ends: of several targets each is trained and transformed by itself."""
    source_label, _, dest_label = json.loads(os.environ["EKIDEN_TARGET"])["target_etype"]
    with np.load(Path(os.environ["SM_MODEL_DIR"]) / "factors.npz", allow_pickle=False) as model:
        source, dest, mean = model["source"], model["dest"], float(model["mean"])
    folder = Path(os.environ["SM_OUTPUT_DIR"]) / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = {
        source_label: np.column_stack([source, np.full(len(source), mean)]).astype(np.float32),
        dest_label: np.column_stack([dest, np.ones(len(dest))]).astype(np.float32),
    }
    np.savez(folder / "entity.npz", **vectors)


if __name__ == "__main__":
    main()
