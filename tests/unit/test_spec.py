"""The rules of the pipeline spec, each with its path and what to do."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from ekiden.contracts.hyperparameters import FM, HYPERPARAMETERS, KGE, RGCN, Hyperparameter, as_text
from ekiden.contracts.spec import PipelineSpec, SpecError, load_spec, parse_spec, spec_json_schema
from ekiden.contracts.spec_features import NumericalFeature

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
  - {node: movie, property: released, type: datetime, datetime_parts: [year, hour]}
model:
  name: rgcn
  hyperparameters: {num-hidden: 32, num-epochs: 60, lr: 0.01, seed: 0, enable-early-stop: true, batch-size: auto}
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
    assert spec.model.hyperparameters["enable-early-stop"] is True
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
        ([0.7, 0.2, 0.1], "write [0.7, 0.20000000000000004, 0.1], which means the same"),
        ([0.8, 0.1, 0.2], "change the rates"),
        ([0.0, 0.5, 0.5], "cannot be 0"),
        ([1.2, -0.1, -0.1], "between 0 and 1"),
    ],
)
def test_rates_that_neptune_export_would_refuse_are_refused_with_advice(rates: list[float], advice: str) -> None:
    assert advice in faults(targets__0__split_rate=rates)["targets[0].split_rate"]


@pytest.mark.parametrize("rates", [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
def test_what_is_advised_passes_and_keeps_the_meaning_of_each_rate(rates: list[float]) -> None:
    assert sum(rates) != 1.0
    message = faults(targets__0__split_rate=rates)["targets[0].split_rate"]
    same, nearby = (json.loads(found) for found in re.findall(r"\[.*?\]", message))
    assert same == pytest.approx(rates, abs=1e-14)
    assert nearby == pytest.approx(rates, abs=0.06)
    for advised in (same, nearby):
        assert parse_spec(document(targets__0__split_rate=advised)).targets[0].split == tuple(advised)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"version": 2}, "version", "2 is not supported; use 1"),
        ({"version": "1"}, "version", "write 1 without quotes"),
        ({"version": None}, "version", "nothing is not supported; use 1"),
        ({"version": ...}, "version", "required field is missing"),
        (
            {"name": "Movie Lens"},
            "name",
            "use lower-case letters, digits and single hyphens, such as movie-lens; found 'Movie Lens'",
        ),
        ({"name": "a-" * 20 + "a"}, "name", "at most 32"),
        ({"name": "-a"}, "name", "such as a; found '-a'"),
        ({"name": "映画"}, "name", "such as my-graph; found '映画'"),
        ({"engine": "neptune-ml"}, "engine", "use 'sagemaker'"),
        ({"graf": {}}, "graf", "unknown field"),
        ({"graph__source": "/home/me"}, "graph.source", "not an s3:// URI"),
        ({"graph__source": "s3://bucket/a/../b"}, "graph.source", "'..'"),
        ({"targets": [{}, {}]}, "targets[1].type", "required field is missing"),
        ({"targets": {}}, "targets", "must be a list; found a mapping"),
        ({"features": "age"}, "features", "must be a list; found 'age'"),
        ({"model": None}, "model", "must be a mapping (key: value); found nothing"),
        ({"name": None}, "name", "must be a text; found nothing"),
        ({"featurs": []}, "featurs", "unknown field; did you mean features?"),
        ({"targets__0__split-rate": []}, "targets[0].split-rate", "did you mean split_rate?"),
        ({"model__hyperparamters": {}}, "model.hyperparamters", "did you mean hyperparameters?"),
        ({"limits__stages": {"train": {"hour": 1}}}, "limits.stages.train.hour", "did you mean hours?"),
        ({"zzz": []}, "zzz", "remove it or correct its spelling (it may have version, name, "),
        ({"targets__0__edge": ["user", "movie"]}, "targets[0].edge", "give three names: source node label"),
        ({"targets__0__edge": "rated"}, "targets[0].edge", "found a text"),
        (
            {"targets__0__type": "ranking"},
            "targets[0].type",
            "is not supported; use one of 'classification', 'regression' or 'link_prediction'",
        ),
        ({"targets__0__property": ""}, "targets[0].property", "at least 1"),
        ({"targets__0__property": "a\nb"}, "targets[0].property", "no tabs, line breaks or other control characters"),
        ({"targets__0__split_rate": ["a", 0.1, 0.1]}, "targets[0].split_rate[0]", "number"),
        (
            {"targets__0__split_rate": [0.9, 0.1]},
            "targets[0].split_rate",
            "give three rates: training, validation, test",
        ),
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
        ({"deploy__instance_type": "m5.large"}, "deploy.instance_type", "such as ml.m5.xlarge; found 'm5.large'"),
        (
            {"deploy__endpoint": "My_Endpoint"},
            "deploy.endpoint",
            "single hyphens, 63 characters at most, such as my-endpoint",
        ),
        ({"model__name": "gpt"}, "model.name", "use one of 'rgcn', 'mf', 'fm', 'transe', 'distmult', 'complex'"),
        ({"model__hyperparameters__lr": [1]}, "model.hyperparameters.lr", "found a list"),
        (
            {"model__hyperparameters__lr": float("inf")},
            "model.hyperparameters.lr",
            "must be a number from 1e-06 to 1, or auto, not 'inf'",
        ),
        ({"model__hyperparameters__lr": None}, "model.hyperparameters.lr", "found nothing"),
        (
            {"model": {"name": "fm", "hyperparameters": {"num-epochs": 5, "burn-in": 300}}},
            "model.hyperparameters.burn-in",
            "leaves no draw of num-epochs 5: give num-epochs above 310, or a smaller burn-in",
        ),
        ({"model__hyperparameters__lr": "x" * 2501}, "model.hyperparameters.lr", "must be a number"),
    ],
)
def test_each_rule_names_the_place_and_what_is_wrong(changes: dict[str, Any], path: str, message: str) -> None:
    found = faults(**changes)
    assert path in found, found
    assert message in found[path]


@pytest.mark.parametrize(
    ("feature", "path", "message"),
    [
        ({"type": "numerical", "norma": "none"}, "features[0].norma", "unknown field; did you mean norm?"),
        ({"type": "numerical", "norm": "max"}, "features[0].norm", "use one of 'none', 'min-max' or 'standard'"),
        ({"type": "numerical", "imputer": "mode"}, "features[0].imputer", "is not supported"),
        ({"type": "category", "separator": ";;"}, "features[0].separator", "at most 1"),
        ({"type": "category", "norm": "none"}, "features[0].norm", "unknown field"),
        ({"type": "bucket_numerical", "bucket_cnt": 10}, "features[0].range", "missing"),
        ({"type": "bucket_numerical", "range": [1, 1], "bucket_cnt": 10}, "features[0].range", "below the second"),
        (
            {"type": "bucket_numerical", "range": [0, 9], "bucket_cnt": 2.5},
            "features[0].bucket_cnt",
            "must be a whole number; found 2.5",
        ),
        (
            {"type": "bucket_numerical", "range": [0, float("inf")], "bucket_cnt": 2},
            "features[0].range[1]",
            "finite",
        ),
        ({"type": "datetime", "datetime_parts": ["minute"]}, "features[0].datetime_parts[0]", "use one of 'year'"),
        ({"type": "datetime", "datetime_parts": []}, "features[0].datetime_parts", "at least 1"),
        ({"type": "text_bert"}, "features[0].type", "use one of 'auto', 'numerical', 'category', 'bucket_numerical'"),
        ({}, "features[0].type", "required field is missing"),
        ({"type": "numerical", "node": ...}, "features[0]", "give node, the label of the nodes"),
        (
            {"type": "numerical", "edge": ["user", "knows", "user"]},
            "features[0].edge",
            "only rgcn with a target on nodes, and custom models, use it",
        ),
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


def test_faults_of_all_kinds_are_told_at_once() -> None:
    # GIVEN targets and features of wrong form, repeated ones, and a model that cannot do what is asked for
    rating = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
    age = {"node": "user", "property": "age", "type": "numerical"}
    wrong = document(
        name="A b",
        targets=[rating, {"node": "user"}, rating, {"node": "user", "property": "kind", "type": "classification"}],
        features=[age, {**age, "type": "number"}, age, {"node": "user", "property": "kind", "type": "category"}],
        model={"name": "mf", "hyperparameters": {"lr": 7}, "search": {"jobs": 0}},
    )
    with pytest.raises(SpecError) as error:
        parse_spec(wrong)
    # THEN each is named with its own number, and nothing is said twice
    assert sorted(fault.path for fault in error.value.faults) == [
        "features[1].type",
        "features[2]",
        "features[3]",
        "model.hyperparameters.lr",
        "model.name",
        "model.search.jobs",
        "name",
        "targets[1].type",
        "targets[2]",
    ]


def test_wrong_targets_do_not_count_as_none() -> None:
    found = faults(targets=[{"edge": ["user", "rated"], "property": "rating", "type": "regression"}], model__name="fm")
    assert list(found) == ["targets[0].edge"], "a spec without targets would ask for links, which fm cannot do"


def test_a_model_is_not_told_the_answer() -> None:
    leak = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "numerical"}
    other = {"edge": ["user", "rated", "movie"], "property": "at", "type": "numerical"}
    assert faults(features=[other, leak]) == {
        "features[0].edge": "only rgcn with a target on nodes, and custom models, use it; remove it",
        "features[1].edge": "is the target's own property: the model would be told the answer; remove it",
    }


def test_features_of_edges_are_taken_where_a_model_uses_them() -> None:
    # GIVEN a target on nodes, beside one on edges
    amount = {"edge": ["user", "rated", "movie"], "property": "amount", "type": "numerical"}
    ages = {"node": "user", "property": "age", "type": "regression"}
    likes = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}
    assert parse_spec(document(targets=[likes, ages], features=[amount])).features[0].edge == ("user", "rated", "movie")
    # THEN types that edges cannot have, and answers, are still refused; and other models do not use it
    text = {**amount, "property": "note", "type": "text_tfidf"}
    answer = {**amount, "property": "rating"}
    found = faults(targets=[likes, ages], features=[text, answer])
    assert found["features[0].type"] == "on edges use one of numerical, category, bucket_numerical, datetime, none"
    assert "the target's own property" in found["features[1].edge"]
    assert "features[0].edge" in faults(targets=[likes], features=[amount], model={"name": "fm"})
    custom = {"name": "custom", "source": "s3://bucket/scripts/"}
    assert parse_spec(document(targets=[likes], features=[amount], model=custom)).features


def test_hyperparameters_are_checked_with_everything_else_and_all_at_once() -> None:
    given = {"num-hiden": 32, "num_hidden": 8, "lr": "fast", "num-epochs": -1, "seeds": 2.5, "foo": 1, "dropout": True}
    found = faults(version=2, model__hyperparameters=given)
    assert found.pop("version")
    assert found == {
        "model.hyperparameters.num-hiden": "rgcn has no such hyperparameter; did you mean num-hidden?",
        "model.hyperparameters.num_hidden": "rgcn has no such hyperparameter; did you mean num-hidden?",
        "model.hyperparameters.lr": "must be a number from 1e-06 to 1, or auto, not 'fast'",
        "model.hyperparameters.num-epochs": "must be a whole number from 1 to 10000, or auto, not '-1'",
        "model.hyperparameters.seeds": "must be a whole number from 1 to 64, not '2.5'",
        "model.hyperparameters.foo": found["model.hyperparameters.foo"],
        "model.hyperparameters.dropout": "must be a number from 0 to 0.9, or auto, not 'true'",
    }
    assert "it has batch-size, closed-form, concat-node-embed, dropout, " in found["model.hyperparameters.foo"]


def test_a_spec_that_an_earlier_version_took_can_still_be_read() -> None:
    edge = {"edge": ["user", "rated", "movie"], "property": "at", "type": "numerical"}
    old = document(features=[edge], model__hyperparameters={"use-self-loop": True, "lr": 7})
    with pytest.raises(SpecError):
        parse_spec(old)
    spec = parse_spec(old, accepted=True)
    assert parse_spec(json.loads(spec.model_dump_json()), accepted=True) == spec


@pytest.mark.parametrize(("model", "table"), [("rgcn", RGCN), ("fm", FM), ("complex", KGE["complex"])])
def test_the_documented_hyperparameters_are_those_of_the_table(model: str, table: tuple[Hyperparameter, ...]) -> None:
    page = (Path(__file__).parents[2] / "docs/hyperparameters.md").read_text()
    section = page.split(f"## `{model}`\n")[1].split("\n## ")[0]
    rows = [
        tuple(cell.strip(" `") for cell in line.split("|")[1:-1]) for line in section.splitlines() if line[:3] == "| `"
    ]
    expected = [(h.name, h.accepted, "auto" if h.default is None else as_text(h.default), h.meaning) for h in table]
    assert rows == expected


def test_models_that_the_page_calls_alike_are_alike() -> None:
    assert KGE["distmult"] == KGE["complex"]
    assert KGE["transe"] == KGE["rotate"]
    other = {h.name: h.default for h in KGE["transe"] if h not in KGE["complex"]}
    assert other == {"regularization-coef": 0.02}
    assert HYPERPARAMETERS["mf"] == HYPERPARAMETERS["rgcn"]


def test_every_fault_is_told_at_once() -> None:
    found = faults(version=3, name="X", targets__0__type="what", features=[{"type": "nothing"}])
    assert set(found) == {"version", "name", "targets[0].type", "features[0].type"}


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
    validator.validate(document(targets=[]))
    validator.validate(document(targets=[{"node": "paper", "property": "topic", "type": "classification"}]))
    validator.validate(document(features=[{"edge": ["a", "b", "c"], "property": "p", "type": "numerical"}]))
    for wrong in (document(version=2), document(name="A B"), document(graf=1), document(targets=[{}] * 9)):
        assert list(validator.iter_errors(wrong))
    assert set(schema["properties"]) == set(PipelineSpec.model_fields)
