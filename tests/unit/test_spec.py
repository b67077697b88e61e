"""The rules of the pipeline spec, each with its path and what to do."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from ekiden.contracts.spec import (
    NumericalFeature,
    PipelineSpec,
    SpecError,
    load_spec,
    parse_spec,
    spec_json_schema,
)

FULL = """
version: 1
name: movielens
engine: sagemaker
graph:
  source: s3://bucket/prefix/
targets:
  - edge: [user, rated, movie]
    property: rating
    type: regression
    split_rate: [0.8, 0.1, 0.1]
features:
  - {node: user, property: age, type: numerical, norm: min-max, imputer: median}
  - {node: movie, property: genres, type: category, separator: ";"}
  - {node: user, property: score, type: bucket_numerical, range: [0, 100], bucket_cnt: 10, slide_window_size: 5}
  - {edge: [user, rated, movie], property: at, type: datetime, datetime_parts: [year, hour]}
model:
  name: rgcn
  hyperparameters: {num-hidden: 32, num-epochs: 60, lr: 0.01, seed: 0, use-self-loop: true, activation: relu}
  instance_type: ml.m5.xlarge
deploy:
  endpoint: movielens
  instance_type: ml.m5.large
  instance_count: 1
"""


def document(**changes: Any) -> dict[str, Any]:
    """A small valid spec, with ``a__b`` standing for ``a.b`` and ``a__0`` for an element."""
    plain: dict[str, Any] = {
        "version": 1,
        "name": "movielens",
        "graph": {"source": "s3://bucket/prefix/"},
        "targets": [{"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}],
        "features": [],
    }
    for path, value in changes.items():
        *steps, last = path.split("__")
        place: Any = plain
        for part in steps:
            place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
        if value is ...:
            del place[last]
        else:
            place[int(last) if last.isdigit() else last] = copy.deepcopy(value)
    return plain


def faults(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as error:
        parse_spec(document(**changes))
    return {fault.path: fault.message for fault in error.value.faults}


def test_the_documented_spec_is_valid_and_survives_a_round_trip() -> None:
    spec = load_spec(FULL)

    assert spec.endpoint_name == "movielens"
    assert isinstance(spec.features[0], NumericalFeature)
    assert spec.model.hyperparameters["use-self-loop"] is True
    assert spec.model.hyperparameters["num-hidden"] == 32
    canonical = json.dumps(spec.model_dump(mode="json", exclude_none=True), sort_keys=True)
    assert parse_spec(json.loads(canonical)) == spec


def test_the_defaults_leave_something_to_test_on() -> None:
    spec = parse_spec(document())
    assert spec.targets[0].split == (0.8, 0.1, 0.1)
    assert spec.endpoint_name == "movielens"
    assert spec.limits.stage_hours == 24


@pytest.mark.parametrize("rates", [[0.8, 0.1, 0.1], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25], [1, 0, 0], [0.9, 0.1, 0.0]])
def test_rates_whose_floating_point_sum_is_one_are_taken(rates: list[float]) -> None:
    assert parse_spec(document(targets__0__split_rate=rates)).targets[0].split == tuple(rates)


@pytest.mark.parametrize(
    ("rates", "advice"),
    [
        ([0.7, 0.2, 0.1], "0.9999999999999999"),
        ([0.7, 0.2, 0.1], "the order [0.7, 0.1, 0.2] does"),
        ([0.8, 0.1, 0.2], "change the rates"),
        ([0.0, 0.5, 0.5], "cannot be 0"),
        ([1.2, -0.1, -0.1], "between 0 and 1"),
    ],
)
def test_rates_that_neptune_export_would_refuse_are_refused_with_advice(rates: list[float], advice: str) -> None:
    assert advice in faults(targets__0__split_rate=rates)["targets[0].split_rate"]


def test_an_advised_order_is_one_that_passes() -> None:
    message = faults(targets__0__split_rate=[0.7, 0.2, 0.1])["targets[0].split_rate"]
    advised = json.loads(message[message.index("the order ") + len("the order ") : message.index("]") + 1])
    assert parse_spec(document(targets__0__split_rate=advised))


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"version": 2}, "version", "use one of 1"),
        ({"version": ...}, "version", "required field is missing"),
        ({"name": "Movie Lens"}, "name", "does not match"),
        ({"name": "a-" * 20 + "a"}, "name", "at most 32"),
        ({"name": "-a"}, "name", "does not match"),
        ({"engine": "neptune-ml"}, "engine", "use one of 'sagemaker'"),
        ({"graf": {}}, "graf", "unknown field"),
        ({"graph__source": "/home/me"}, "graph.source", "not an s3:// URI"),
        ({"graph__source": "s3://bucket/a/../b"}, "graph.source", "'..'"),
        ({"targets": []}, "targets", "at least 1"),
        ({"targets__0__edge": ["user", "movie"]}, "targets[0].edge[2]", "missing"),
        ({"targets__0__type": "classification"}, "targets[0].type", "use one of 'regression'"),
        ({"targets__0__type": "link_prediction"}, "targets[0].type", "is not supported"),
        ({"targets__0__property": ""}, "targets[0].property", "at least 1"),
        ({"targets__0__property": "a\nb"}, "targets[0].property", "does not match"),
        ({"targets__0__split_rate": ["a", 0.1, 0.1]}, "targets[0].split_rate[0]", "number"),
        ({"targets__0__split_rate": [0.9, 0.1]}, "targets[0].split_rate[2]", "missing"),
        (
            {"targets__0__split_rate": [0.8, 0.1, 0.1], "targets__0__custom_split_filenames": {"train": "a.csv"}},
            "targets[0]",
            "either split_rate or custom_split_filenames",
        ),
        ({"targets__0__custom_split_filenames": {"test": "a"}}, "targets[0].custom_split_filenames.train", "missing"),
        (
            {"targets__0__custom_split_filenames": {"train": "../a.csv"}},
            "targets[0].custom_split_filenames.train",
            "below graph.source",
        ),
        ({"limits__stage_hours": 0}, "limits.stage_hours", "greater than 0"),
        ({"limits__stage_hours": float("nan")}, "limits.stage_hours", "finite"),
        ({"deploy__instance_count": 11}, "deploy.instance_count", "less than or equal to 10"),
        ({"deploy__instance_type": "m5.large"}, "deploy.instance_type", "does not match"),
        ({"deploy__endpoint": "my_endpoint"}, "deploy.endpoint", "does not match"),
        ({"model__name": "gpt"}, "model.name", "use one of 'rgcn'"),
        ({"model__hyperparameters__lr": [1]}, "model.hyperparameters.lr", "found list"),
        ({"model__hyperparameters__lr": float("inf")}, "model.hyperparameters.lr", "finite"),
        ({"model__hyperparameters__category": None}, "model.hyperparameters.category", "found NoneType"),
        ({"model__hyperparameters__note": "x" * 2501}, "model.hyperparameters.note", "2,500"),
    ],
)
def test_each_rule_names_the_place_and_what_is_wrong(changes: dict[str, Any], path: str, message: str) -> None:
    found = faults(**changes)
    assert path in found, found
    assert message in found[path]


@pytest.mark.parametrize(
    ("feature", "path", "message"),
    [
        ({"type": "numerical", "norma": "none"}, "features[0].norma", "unknown field"),
        ({"type": "numerical", "norm": "max"}, "features[0].norm", "use one of 'none', 'min-max' or 'standard'"),
        ({"type": "numerical", "imputer": "mode"}, "features[0].imputer", "is not supported"),
        ({"type": "category", "separator": ";;"}, "features[0].separator", "at most 1"),
        ({"type": "category", "norm": "none"}, "features[0].norm", "unknown field"),
        ({"type": "bucket_numerical", "bucket_cnt": 10}, "features[0].range", "missing"),
        ({"type": "bucket_numerical", "range": [1, 1], "bucket_cnt": 10}, "features[0].range", "below the second"),
        ({"type": "bucket_numerical", "range": [0, 9], "bucket_cnt": 2.5}, "features[0].bucket_cnt", "integer"),
        (
            {"type": "bucket_numerical", "range": [0, float("inf")], "bucket_cnt": 2},
            "features[0].range[1]",
            "finite",
        ),
        ({"type": "datetime", "datetime_parts": ["minute"]}, "features[0].datetime_parts[0]", "use one of 'year'"),
        ({"type": "datetime", "datetime_parts": []}, "features[0].datetime_parts", "at least 1"),
        ({"type": "text_sbert"}, "features[0]", "use one of 'numerical', 'category', 'bucket_numerical', 'datetime'"),
        ({}, "features[0]", "required field 'type' is missing"),
        ({"type": "numerical", "node": ...}, "features[0]", "either node (a label) or edge"),
        ({"type": "numerical", "edge": ["user", "knows", "user"]}, "features[0]", "either node (a label) or edge"),
    ],
)
def test_a_feature_has_the_options_of_its_type_and_no_others(feature: dict[str, Any], path: str, message: str) -> None:
    whole = {"node": "user", "property": "age"} | feature
    found = faults(features=[{name: value for name, value in whole.items() if value is not ...}])
    assert path in found, found
    assert message in found[path]


def test_a_property_is_described_once() -> None:
    age = {"node": "user", "property": "age", "type": "numerical"}
    found = faults(features=[age, {**age, "node": "movie"}, {**age, "type": "category"}])
    assert found == {"features[2]": "describes the same property as features[0]; remove one of them"}


def test_a_model_is_not_told_the_answer() -> None:
    leak = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "numerical"}
    other = {"edge": ["user", "rated", "movie"], "property": "at", "type": "numerical"}
    assert faults(features=[other, leak]) == {
        "features[1]": "is the target's own property: the model would be told the answer"
    }


def test_every_fault_is_told_at_once() -> None:
    found = faults(version=3, name="X", targets__0__type="what", features=[{"type": "none"}])
    assert set(found) == {"version", "name", "targets[0].type", "features[0]"}


@pytest.mark.parametrize("wrong", [None, [], "text", 7])
def test_what_is_no_mapping_is_no_spec(wrong: object) -> None:
    with pytest.raises(SpecError, match="a pipeline spec is a mapping"):
        parse_spec(wrong)


def test_a_local_folder_is_a_source_for_those_who_will_upload_it() -> None:
    local = document(graph__source="../data/graph")
    assert parse_spec(local, allow_local_source=True).graph.source == "../data/graph"
    with pytest.raises(SpecError):
        parse_spec(local)
    with pytest.raises(SpecError):
        parse_spec(document(graph__source="s3://Bucket/x"), allow_local_source=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket/graph", "s3://bucket/graph/"),
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/graph/edges.csv", "s3://bucket/graph/edges.csv"),
    ],
)
def test_a_prefix_means_a_folder_and_not_its_neighbours(source: str, expected: str) -> None:
    assert parse_spec(document(graph__source=source)).graph.source == expected


def test_a_message_repeats_little_of_what_was_sent() -> None:
    long, odd = "x" * 5000, "\u202e\ud800\n" * 30
    with pytest.raises(SpecError) as error:
        parse_spec(document() | {long: 1, odd: 2, "name": long, "engine": {"deep": long}})
    for fault in error.value.faults:
        assert len(str(fault)) < 300
        assert str(fault).isprintable()
        str(fault).encode()


def test_the_published_schema_accepts_what_the_model_accepts() -> None:
    schema = spec_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(json.dumps(load_spec(FULL).model_dump(mode="json", exclude_none=True))))
    validator.validate(document())
    for wrong in (document(version=2), document(name="A B"), document(graf=1), document(targets=[])):
        assert list(validator.iter_errors(wrong))
    assert set(schema["properties"]) == set(PipelineSpec.model_fields)
