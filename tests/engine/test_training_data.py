"""`training-data-configuration.json`: what the guide and the exporter write is read, one form is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ekiden.contracts.base import DocumentError
from ekiden.contracts.training_data import parse_training_data

NODE = {"file_name": "nodes/A.csv", "separator": ",", "node": ["~id", "A"]}


def document(**node: Any) -> str:
    return json.dumps(
        {"version": "v2.0", "query_engine": "gremlin", "graph": {"nodes": [{**NODE, **node}], "edges": []}}
    )


def test_what_is_written_is_read_back_and_is_an_object(tmp_path: object) -> None:
    text = document(
        features=[{"feature": ["a", "a", "bucket_numerical"], "range": [0, 9], "bucket_cnt": 3, "imputer": "mean"}],
        labels=[{"label": ["b", "classification"], "custom_split_filenames": {"train": "t", "validation": "v"}}],
    )
    configuration = parse_training_data(text)
    written = configuration.to_json()
    assert parse_training_data(written) == configuration
    assert isinstance(json.loads(written)["graph"], dict)
    # the guide's prose says `validation`, its schema `valid`: the schema's is written
    assert json.loads(written)["graph"]["nodes"][0]["labels"][0]["custom_split_filenames"] == {
        "train": "t",
        "valid": "v",
    }


def test_spellings_that_differ_between_guide_and_exporter_are_one() -> None:
    features = [
        {"feature": ["a", "a", "numerical"], "norm": "min-max", "imputer": "most-frequent", "future_option": 1},
        {"feature": ["b", "b", "bucket_numerical"], "range": [0, 1], "num_buckets": 4},
    ]
    first, second = parse_training_data(document(features=features)).graph.nodes[0].features
    assert first.imputer == "most_frequent"
    assert second.bucket_cnt == 4


def test_whole_numbers_are_rates_too() -> None:
    labels = [{"label": ["x", "regression"], "split_rate": [1, 0, 0]}]
    assert parse_training_data(document(labels=labels)).graph.nodes[0].labels[0].split_rate == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ({"features": [{"feature": ["a", "a", "sound"]}]}, "graph.nodes[0].features[0].feature[2]"),
        ({"features": [{"feature": ["a", "a", "numerical"], "norm": "log"}]}, "graph.nodes[0].features[0].norm"),
        ({"labels": [{"label": ["x", "regression"], "split_rate": [0.7, 0.2, 0.1]}]},
         "graph.nodes[0].labels[0].split_rate"),
        ({"labels": [{"label": ["x", "regression"], "split_rate": [1, 0, 0],
                      "custom_split_filenames": {"train": "t"}}]}, "graph.nodes[0].labels[0]"),
        ({"node": ["~id"]}, "graph.nodes[0].node"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_path(node: dict[str, Any], path: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_training_data(document(**node))
    assert path in str(caught.value)


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(DocumentError, match="not JSON"):
        parse_training_data("{")
