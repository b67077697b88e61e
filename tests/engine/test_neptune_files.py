"""Files that tools for Neptune ML look for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ekiden_engine.cli import run_command
from ekiden_engine.neptune_files import GIB, smallest_instance
from tests.engine.factories import SMALL_GRAPH, make_encoded_graph, process_files
from tests.engine.model_factories import make_train_job


def test_a_processed_graph_says_which_instance_it_needs(tmp_path: Path) -> None:
    process_files(tmp_path, SMALL_GRAPH)
    document = json.loads((tmp_path / "processed/train_instance_recommendation.json").read_text())
    assert document["instance"] == document["cpu_instance"] == "ml.m5.large"
    assert 0 < document["disk_size"] < document["mem_size"] < 8 * GIB


@pytest.mark.parametrize(
    ("memory", "instance"),
    [(GIB, "ml.m5.large"), (8 * GIB, "ml.m5.xlarge"), (300 * GIB, "ml.m5.24xlarge"), (2000 * GIB, "ml.r5.24xlarge")],
)
def test_the_smallest_instance_with_more_memory_is_recommended(memory: int, instance: str) -> None:
    assert smallest_instance(memory) == instance


def test_a_model_has_metrics_vectors_and_a_recommendation_by_neptunes_names(tmp_path: Path) -> None:
    root = make_train_job(tmp_path)
    assert run_command("train", root) == 0
    (entry,) = json.loads((root.model / "evaluation.json").read_text())["targets"]
    assert json.loads((root.model / "test_metrics_info.json").read_text()) == entry["splits"]["test"]
    assert json.loads((root.model / "eval_metrics_info.json").read_text()) == entry["splits"]["valid"]
    graph = make_encoded_graph()
    vectors = np.load(root.model / "embeddings/entity.npy", allow_pickle=False)
    rows = json.loads((root.model / "embeddings/entity.json").read_text())["rows"]
    assert [(r["type"], r["count"]) for r in rows] == [(nodes.label, len(nodes)) for nodes in graph.nodes]
    assert vectors.shape[0] == sum(map(len, graph.nodes))
    recommended = json.loads((root.model / "infer_instance_recommendation.json").read_text())
    assert recommended["instance"] == "ml.m5.large"
