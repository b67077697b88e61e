"""Trains matrix factorization by alternating least squares, in plain numpy, on one edge property that is a number.

Reads the encoded graph in SM_CHANNEL_TRAIN, writes its factors to SM_MODEL_DIR, prints the validation error after every
pass, which model-hpo-configuration.json tells the search to look for. Keeps its state in SM_CHECKPOINT_DIR, a folder of
its own for this target and these hyper-parameters: started again after an interruption, it goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ekiden_engine.graph import EncodedGraph, Split

stopping = False


def stop(*_: object) -> None:
    """SIGTERM: end after this pass, with the best so far."""
    global stopping  # noqa: PLW0603
    stopping = True


def parse() -> argparse.Namespace:
    """The arguments that every custom model gets, and this one's hyper-parameters."""
    parser = argparse.ArgumentParser()
    for name in ("--task", "--model", "--name"):
        parser.add_argument(name, required=True)
    for name in ("--target_ntype", "--target_etype", "--property"):  # which of them there are depends on the task
        parser.add_argument(name)
    parser.add_argument("--num-factors", type=int, default=8)
    parser.add_argument("--regularization", type=float, default=3.0)
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def solve(factors: np.ndarray, own: np.ndarray, other: np.ndarray, rating: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression per node: `own` [m] are the nodes, `other` [m, d] the vectors at the far ends."""
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(len(factors) + 1))
    solved = np.zeros_like(factors)
    for node in range(len(factors)):
        rows = order[starts[node] : starts[node + 1]]
        if len(rows):
            x = other[rows]
            solved[node] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ rating[rows])
    return solved


def ended(errors: np.ndarray, epochs: int) -> bool:
    """Whether all passes are done, or the last one was worse than the best by more than 2 %."""
    return len(errors) >= epochs or (len(errors) > 0 and bool(errors[-1] > errors.min() * 1.02))


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write beside the place and rename: an interruption leaves the earlier file or the new one, never half of it."""
    with path.with_suffix(".partial").open("wb") as file:
        np.savez(file, **arrays)
    os.replace(file.name, path)


def main() -> None:
    """Alternate until the validation edges get no better."""
    signal.signal(signal.SIGTERM, stop)
    given = parse()
    if given.task != "edge_regression":
        raise SystemExit(f"this model predicts numbers on edges, not {given.task}")
    graph = EncodedGraph.load(Path(os.environ["SM_CHANNEL_TRAIN"]))
    source_label, relation, dest_label = json.loads(given.target_etype)
    edge_type = (source_label, relation, dest_label)
    target = next(t for t in graph.targets if t.edge == edge_type and t.property == given.property)
    edges, labels = graph.edge(edge_type), graph.labels(target)
    train, valid = labels.rows(Split.TRAIN), labels.rows(Split.VALID)
    values = np.asarray(labels.values, np.float64)
    mean = float(values[train].mean())
    source, dest, rating = edges.source[train], edges.dest[train], values[train] - mean

    rng = np.random.default_rng(given.seed)
    shape = (len(graph.node(source_label)), given.num_factors), (len(graph.node(dest_label)), given.num_factors)
    users, movies = rng.normal(scale=0.1, size=shape[0]), rng.normal(scale=0.1, size=shape[1])
    users[:, 0] = movies[:, 1] = 1.0  # so that both ends have a bias
    state = {"source": users, "dest": movies, "best_source": users, "best_dest": movies, "errors": np.empty(0)}
    checkpoint = Path(os.environ["SM_CHECKPOINT_DIR"]) / "state.npz"
    if checkpoint.exists():
        with np.load(checkpoint, allow_pickle=False) as saved:
            state = dict(saved)
    for epoch, error in enumerate(state["errors"], 1):  # once more, so that the learning curve is whole
        print(f"epoch {epoch} validation:rmse={error:.6f}")  # noqa: T201
    while not (stopping and len(state["errors"])) and not ended(state["errors"], given.num_epochs):
        users = solve(state["source"], source, state["dest"][dest], rating, given.regularization)
        movies = solve(state["dest"], dest, users[source], rating, given.regularization)
        predicted = mean + (users[edges.source[valid]] * movies[edges.dest[valid]]).sum(1)
        error = float(np.sqrt(np.mean((predicted - values[valid]) ** 2))) if len(valid) else 0.0
        print(f"epoch {len(state['errors']) + 1} validation:rmse={error:.6f}")  # noqa: T201  how the search learns of it
        state |= {"source": users, "dest": movies, "errors": np.append(state["errors"], error)}
        if error == state["errors"].min():
            state |= {"best_source": users, "best_dest": movies}
        save(checkpoint, state)
    factors = {"source": state["best_source"], "dest": state["best_dest"], "mean": np.array(mean)}
    save(Path(os.environ["SM_MODEL_DIR"]) / "factors.npz", factors)


if __name__ == "__main__":
    main()
