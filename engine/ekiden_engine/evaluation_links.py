"""Evaluation of link prediction: where the held-out links rank among all candidates, in both directions.

Above `MAX_SCORES` scores only a random sample of the queries is ranked, all their truths included, and evaluation.json
says so.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ekiden_engine.evaluation_held_out import (
    NODE_STATUSES,
    SHOWN_EXAMPLES,
    Example,
    Examples,
    Headline,
    HeldOutLinks,
    TargetEvaluation,
    finite,
    graph_counts,
    held_out_split,
    rows_by_split,
    status_counts,
    strongest,
)
from ekiden_engine.evaluation_link_baselines import link_baselines
from ekiden_engine.evaluation_link_queries import (
    Concerned,
    Ranked,
    Scorer,
    Side,
    budgeted,
    join_ranks,
    make_sides,
    rank_side,
)
from ekiden_engine.evaluation_tables import by_degree
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.metrics import DoubleArray, Figures, FloatArray
from ekiden_engine.metrics_ranking import Ranks
from ekiden_engine.models.base import Direction, IndexArray, LinkPredictor, Predictor

MAX_SCORES = 1_000_000_000
"""Scores (queries times candidates) that the held-out links may cost, per model: half a minute on a core."""
SIDE_SHARE = 0.03
"""The other splits get this share of it: they only tell how closely the model follows them."""
TOP = 10
MAX_EDGE_TYPES = 30
"""Edge types, those with most held-out links, that are listed."""
HITS = 10


def evaluate_links(graph: EncodedGraph, target: Target, predictor: Predictor) -> TargetEvaluation:
    """Rank the held-out links of `target`, and the same links by the baselines."""
    by_links = cast(LinkPredictor, predictor)
    concerned = graph.link_labels(target)
    parts = [rows_by_split(labels) for _, labels in concerned]
    held = held_out_split({name: np.concatenate([p[name] for p in parts]) for name in parts[0]})
    sides, share = budgeted(make_sides(graph, concerned, Split[held.upper()]), MAX_SCORES)
    model = _scorer(by_links, concerned, target)
    ranked = [rank_side(side, model, TOP) for side in sides]
    fitted = link_baselines(graph, target)
    baselines = {
        name: join_ranks([rank_side(side, scorer).ranks for side in sides]) for name, scorer in fitted.scorers.items()
    }
    figures = {name: ranks.figures() for name, ranks in baselines.items()}
    splits = {
        split.name.lower(): _other_split(graph, concerned, split, model)
        for split in (Split.TRAIN, Split.VALID, Split.TEST)
        if split.name.lower() != held
    }
    ranks = join_ranks([r.ranks for r in ranked])
    splits[held] = ranks.figures()
    held_out = _held_out(graph, concerned, held, by_links, sides, ranked, baselines)
    metric = Headline("mrr", splits[held]["mrr"], True)
    totals = {name: sum(len(p[name]) for p in parts) for name in parts[0]}
    return TargetEvaluation(
        target=target,
        held_out=held_out,
        metric=metric,
        splits={name: splits[name] for name in parts[0]},
        baselines=figures,
        left_out=fitted.left_out,
        counts={
            **graph_counts(graph),
            "target": {**totals, "unused": sum(len(labels.rows(Split.NONE)) for _, labels in concerned)},
            "statuses": status_counts(held_out.status, NODE_STATUSES),
            "queries": {"ranked": len(held_out.node), "share": share},
        },
        details=_details(concerned, sides, [r.ranks for r in ranked], held_out, strongest(metric, figures)),
        examples=_examples(graph, held_out),
    )


def _scorer(predictor: LinkPredictor, concerned: Concerned, target: Target) -> Scorer:
    """The model's scores; the candidates of one edge type and direction are made once, not per block."""
    positions = {edge_type: i for i, edge_type in enumerate(predictor.edge_types)}
    latest: dict[tuple[int, Direction], FloatArray] = {}

    def scores(index: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        position = positions[concerned[index][0].edge_type]
        if (position, direction) not in latest:
            latest.clear()
            latest[position, direction] = predictor.items(position, direction)
        return finite(predictor.queries(position, direction, nodes) @ latest[position, direction].T, target)

    return scores


def _other_split(graph: EncodedGraph, concerned: Concerned, split: Split, model: Scorer) -> Figures:
    sides, _ = budgeted(make_sides(graph, concerned, split), MAX_SCORES * SIDE_SHARE)
    return join_ranks([rank_side(side, model).ranks for side in sides]).figures()


def _held_out(
    graph: EncodedGraph,
    concerned: Concerned,
    split: str,
    predictor: LinkPredictor,
    sides: list[Side],
    ranked: list[Ranked],
    baselines: dict[str, Ranks],
) -> HeldOutLinks:
    """The sides one after the other, as the ranks are."""
    node_degree, truth_degree, status = [], [], []
    for side in sides:
        edges, labels = concerned[side.index]
        train = labels.rows(Split.TRAIN)
        given, asked = (edges.source, edges.dest) if side.direction == "tail" else (edges.dest, edges.source)
        counts = len(graph.node(side.query_label))
        node_degree.append(np.bincount(given[train], minlength=counts)[side.query])
        truth_degree.append(np.bincount(asked[train], minlength=side.candidates)[side.truth])
        status.append((~predictor.known(side.query_label, side.query)).view(np.uint8))
    ranks = join_ranks([r.ranks for r in ranked])
    sizes = [len(side.query) for side in sides]
    return HeldOutLinks(
        split=split,
        edge_types=tuple(edges.edge_type for edges, _ in concerned),
        edge_type=np.repeat(np.array([side.index for side in sides], np.int32), sizes),
        head=np.repeat(np.array([side.direction == "head" for side in sides], np.bool_), sizes),
        node=_together([side.query for side in sides], np.int32),
        offsets=ranks.offsets,
        truth=_together([side.truth for side in sides], np.int32),
        ranks=ranks,
        baselines=baselines,
        top=np.concatenate([np.empty((0, TOP), np.int32), *(r.top for r in ranked)]),
        top_scores=np.concatenate([np.empty((0, TOP), np.float32), *(r.top_scores for r in ranked)]),
        node_degree=_together(node_degree, np.int64),
        truth_degree=_together(truth_degree, np.int64),
        status=_together(status, np.uint8),
    )


def _together(parts: list[Any], dtype: type[np.generic]) -> Any:
    return np.concatenate([np.empty(0, dtype), *parts])


def _details(
    concerned: Concerned, sides: list[Side], ranks: list[Ranks], held: HeldOutLinks, strongest_name: str | None
) -> dict[str, Any]:
    by_type: dict[int, list[Ranks]] = {}
    for side, found in zip(sides, ranks, strict=True):
        by_type.setdefault(side.index, []).append(found)
    joined = {index: join_ranks(found) for index, found in by_type.items()}
    largest = sorted(joined, key=lambda index: -len(joined[index].raw))[:MAX_EDGE_TYPES]
    series: dict[str, DoubleArray] = {"model": (held.ranks.filtered <= HITS).astype(np.float64)}
    if strongest_name is not None:
        series[strongest_name] = (held.baselines[strongest_name].filtered <= HITS).astype(np.float64)
    node_degree = np.repeat(held.node_degree, np.diff(held.offsets))
    return {
        "directions": {
            direction: join_ranks(
                [r for side, r in zip(sides, ranks, strict=True) if side.direction == direction]
            ).figures()
            for direction in ("tail", "head")
        },
        "edge_types": [
            {"edge_type": "-".join(concerned[index][0].edge_type), **joined[index].figures()} for index in largest
        ],
        "by_degree": [
            {"end": end, "role": role, "metric": f"hits@{HITS}", "buckets": by_degree(degree, series, root=False)}
            for end, role, degree in (
                ("given node", "query", node_degree),
                ("node to be found", "truth", held.truth_degree),
            )
        ],
    }


def _examples(graph: EncodedGraph, held: HeldOutLinks) -> Examples:
    """Links found first, and links ranked last: the given node, the truth, and what stood on top of the list."""
    rank = held.ranks.filtered
    few = min(SHOWN_EXAMPLES, len(rank) // 2)
    order = np.argsort(rank, kind="stable")
    query = np.repeat(np.arange(len(held.node)), np.diff(held.offsets))

    def row(i: int) -> Example:
        q = int(query[i])
        source, relation, dest = held.edge_types[int(held.edge_type[q])]
        given, asked = (dest, source) if held.head[q] else (source, dest)
        name = graph.node(given).ids[int(held.node[q])].as_py()
        truth = graph.node(asked).ids[int(held.truth[i])].as_py()
        best = [graph.node(asked).ids[int(c)].as_py() for c in held.top[q, :3] if c >= 0]
        link = f"? {relation} {name}" if held.head[q] else f"{name} {relation} ?"
        return Example((link, truth), f"rank {rank[i]:,.4g}", ", ".join(best))

    worst = order[::-1][:few]
    return Examples(("link", "truth"), tuple(row(int(i)) for i in order[:few]), tuple(row(int(i)) for i in worst))
