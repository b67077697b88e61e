"""Node classification on the Cora citation graph, where it is at hand (see `shared_data`)."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ekiden_engine.graph import EncodedGraph, Split
from ekiden_engine.models.nodes_baselines import node_baselines
from tests.engine.nodes_factories import PROPAGATION, accuracy, all_answers, fit_nodes, make_node_graph


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cora(folder: Path) -> EncodedGraph:
    """The Planetoid split; features are the 100 most frequent words."""
    papers, cites = read(folder / "vertices.csv"), read(folder / "edges.csv")
    at = {paper["~id"]: i for i, paper in enumerate(papers)}
    texts = [paper["words:String(single)"].split() for paper in papers]
    words = [word for word, _ in Counter(word for text in texts for word in text).most_common(100)]
    x = np.array([[word in text for word in words] for text in map(set, texts)], np.float32)
    topics = sorted({paper["topic:String(single)"] for paper in papers})
    values = np.array([topics.index(paper["topic:String(single)"]) for paper in papers])
    split: npt.NDArray[np.uint8] = np.full(len(papers), Split.NONE, np.uint8)
    for part, name in ((Split.TRAIN, "train"), (Split.VALID, "valid"), (Split.TEST, "test")):
        split[[at[row["~id"]] for row in read(folder / f"split_{name}.csv")]] = part
    pairs = ([at[edge["~from"]] for edge in cites], [at[edge["~to"]] for edge in cites])
    return make_node_graph({"paper": x}, {("paper", "cites", "paper"): pairs}, values, split, classes=len(topics))


def test_a_hundred_words_and_140_labels_tell_the_topic_of_four_papers_in_five(shared_data: Path) -> None:
    if not (shared_data / "cora" / "vertices.csv").is_file():
        pytest.skip("no Cora among the shared data sets")
    graph = cora(shared_data / "cora")
    answers = all_answers(fit_nodes(graph, PROPAGATION, num_hidden=32, seeds=2), graph)
    assert accuracy(answers, graph) > 0.8
    baselines = {name: accuracy(a, graph) for name, a in node_baselines(graph, graph.targets[0]).items()}
    assert 0.65 < baselines["label_propagation"] < 0.75
    assert 0.4 < baselines["logistic_regression"] < 0.6
    # The labels of a thousand test papers are foretold about as surely as they turn out.
    rows = np.flatnonzero(graph.nodes[0].labels[0].split == Split.TEST)
    assert abs(answers[rows].max(1).mean() - accuracy(answers, graph)) < 0.08
