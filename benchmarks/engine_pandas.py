"""What `export` and `process` do to a generated graph, plainly, with pandas; run by the peers' interpreter.

    python -m benchmarks.engine_pandas GRAPH OUT

Read the CSV files, check that ids are distinct and ends exist, map ends to row numbers, scale numbers, make categories
columns, split the edges, save npz and the ids. It writes no CSV and no hashes, and checks no types.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]

SHARES = (0.9, 0.05)


def main() -> int:
    """Do it, and print the seconds that it took, imports excluded."""
    started = time.perf_counter()
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True)
    users, items = pd.read_csv(source / "users.csv"), pd.read_csv(source / "items.csv")
    ratings = pd.concat(map(pd.read_csv, sorted(source.glob("ratings-*.csv"))), ignore_index=True)
    ids = pd.concat([users["~id"], items["~id"]], ignore_index=True)
    if ids.duplicated().any() or ratings["~id"].duplicated().any():
        raise SystemExit("an id is there twice")
    ends = {}
    for column, nodes in (("~from", users), ("~to", items)):
        ends[column] = pd.Index(nodes["~id"]).get_indexer(ratings[column]).astype(np.int32)
        if (ends[column] < 0).any():
            raise SystemExit("an end is no vertex")
    label = pd.to_numeric(ratings["rating:Int"]).to_numpy(np.float32)
    part = np.random.default_rng(0).random(len(ratings))
    split = np.digitize(part, np.cumsum(SHARES)).astype(np.uint8)
    np.savez(out / "edges.npz", source=ends["~from"], dest=ends["~to"], label=label, split=split)
    features = {
        "users": (users, scaled(users["age:Int"]), pd.get_dummies(users["gender:String"])),
        "items": (items, scaled(items["year:Int"]), items["genres:String(set)"].str.get_dummies(";")),
    }
    for name, (nodes, number, hot) in features.items():
        np.savez(out / f"{name}.npz", features=np.column_stack([number, hot.to_numpy(np.float32)]))
        nodes[["~id"]].to_parquet(out / f"{name}.parquet")
    print(json.dumps({"seconds": time.perf_counter() - started}))
    return 0


def scaled(values: pd.Series) -> npt.NDArray[np.float32]:
    """Min-max."""
    numbers: npt.NDArray[np.float32] = values.to_numpy(np.float32)
    found: npt.NDArray[np.float32] = (numbers - numbers.min()) / (numbers.max() - numbers.min())
    return found


if __name__ == "__main__":
    sys.exit(main())
