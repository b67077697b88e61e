"""`myfm` on an encoded rating graph, in an interpreter of its own.

    python myfm_peer.py ratings.npz

`myfm` 0.4.0 imports pkg_resources and so needs setuptools below 81, which the project does not want to pin: the quality
benchmark runs this file with another interpreter, which has only that, numpy and scipy. It gets the features and the
implicit sets that model `fm` gets, as relation blocks, one group per kind of column, and labels of unit variance, and
prints JSON: test RMSE (clamped to the label range), and seconds of fitting and predicting.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from scipy import sparse


def block(count: int, features: Any, sets: Any) -> tuple[Any, list[int]]:
    """One-hot ids, features and normalised implicit set of one end, and the sizes of its groups."""
    sizes = np.maximum(np.asarray((sets != 0).sum(1)).ravel(), 1)
    parts = [sparse.identity(count), sparse.csr_matrix(features), sparse.diags(1 / np.sqrt(sizes)) @ sets]
    parts = [part for part in parts if part.shape[1]]
    return sparse.hstack(parts).tocsr(), [part.shape[1] for part in parts]


def main() -> int:
    """Fit, predict, print."""
    from myfm import MyFMRegressor, RelationBlock  # type: ignore[import-not-found]

    with np.load(sys.argv[1], allow_pickle=False) as archive:
        data = {name: archive[name] for name in archive.files}
    rank, iterations, kept, seed = (int(x) for x in data["settings"])
    s, t, y = data["source"], data["dest"], data["label"].astype(np.float64)
    users, items = len(data["source_features"]), len(data["dest_features"])
    seen = sparse.csr_matrix((np.ones(len(s)), (s, t)), shape=(users, items))
    first, groups = block(users, data["source_features"], seen)
    second, more = block(items, data["dest_features"], seen.T.tocsr())
    mean, scale = y.mean(), y.std()
    started = time.perf_counter()
    model = MyFMRegressor(rank=rank, random_seed=seed)
    model.fit(
        None,
        (y - mean) / scale,
        X_rel=[RelationBlock(s, first), RelationBlock(t, second)],
        n_iter=iterations,
        n_kept_samples=kept,
        group_shapes=groups + more,
    )
    fitted = time.perf_counter()
    test = [RelationBlock(data["test_source"], first), RelationBlock(data["test_dest"], second)]
    said = np.clip(mean + scale * model.predict(None, test), y.min(), y.max())
    done = time.perf_counter()
    rmse = float(np.sqrt(np.mean((said - data["test_label"]) ** 2)))
    print(json.dumps({"rmse": rmse, "fit_seconds": fitted - started, "predict_seconds": done - fitted}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
