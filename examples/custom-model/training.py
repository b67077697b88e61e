"""Trains matrix factorization by alternating least squares, in plain numpy, on one edge property that is a number.

Reads the encoded graph in SM_CHANNEL_TRAIN, writes its factors to SM_MODEL_DIR, prints the validation error after every
pass, which model-hpo-configuration.json tells the search to look for. Goes on from a checkpoint if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import numpy as np

from ekiden_engine.graph import EncodedGraph, Split

stopping = False


def stop(*_: object) -> None:
    """SIGTERM: end after this pass; what was learnt so far is saved."""
    global stopping  # noqa: PLW0603
    stopping = True


def parse() -> argparse.Namespace:
    """The arguments that every custom model gets, and this one's hyper-parameters."""
    parser = argparse.ArgumentParser()
    for name in ("--task", "--model", "--name", "--target_etype", "--property"):
        parser.add_argument(name, required=True)
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
    checkpoint = Path(os.environ["SM_CHECKPOINT_DIR"]) / "factors.npz"
    wanted = (len(graph.node(source_label)), given.num_factors), (len(graph.node(dest_label)), given.num_factors)
    users, movies = rng.normal(scale=0.1, size=wanted[0]), rng.normal(scale=0.1, size=wanted[1])
    users[:, 0] = movies[:, 1] = 1.0  # so that both ends have a bias
    if checkpoint.exists():
        with np.load(checkpoint, allow_pickle=False) as saved:
            if (saved["source"].shape, saved["dest"].shape) == wanted:
                users, movies = saved["source"], saved["dest"]
    best = np.inf
    for epoch in range(1, given.num_epochs + 1):
        users = solve(users, source, movies[dest], rating, given.regularization)
        movies = solve(movies, dest, users[source], rating, given.regularization)
        predicted = mean + (users[edges.source[valid]] * movies[edges.dest[valid]]).sum(1)
        error = float(np.sqrt(np.mean((predicted - values[valid]) ** 2))) if len(valid) else 0.0
        print(f"epoch {epoch} validation:rmse={error:.6f}")  # noqa: T201  this is how the search learns of it
        if error < best:
            best = error
            np.savez(Path(os.environ["SM_MODEL_DIR"]) / "factors.npz", source=users, dest=movies, mean=mean)
        elif error > best * 1.02:
            break
        if stopping:
            np.savez(checkpoint, source=users, dest=movies)
            break


if __name__ == "__main__":
    main()
