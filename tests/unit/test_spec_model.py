"""``model`` of a spec: searches and custom models, and what earlier versions are spared."""

from __future__ import annotations

from typing import Any

import pytest

from ekiden.contracts.spec import SpecError, parse_spec

TARGET = {"edge": ["user", "rated", "movie"], "property": "rating", "type": "regression"}


def document(**model: Any) -> dict[str, Any]:
    return {"version": 1, "name": "a", "graph": {"source": "s3://bucket/g/"}, "targets": [TARGET], "model": model}


def faults(**model: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(document(**model))
    return {fault.path: fault.message for fault in caught.value.faults}


def test_neptune_mls_names_of_a_searchs_limits_are_understood() -> None:
    given = {"maxHPONumberOfTrainingJobs": 8, "maxHPOParallelTrainingJobs": 2, "where": "tuning-job"}
    search = parse_spec(document(search=given)).model.search
    assert search is not None
    assert (search.jobs, search.parallel) == (8, 2)


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ({}, None),
        ({"search": {"jobs": 1}}, None),
        ({"search": {}}, "in-process"),
        ({"search": {"jobs": 5, "where": "tuning-job"}}, "tuning-job"),
    ],
)
def test_a_search_is_more_than_one_model(model: dict[str, Any], where: str | None) -> None:
    assert parse_spec(document(**model)).model.searches_in == where


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        ({"search": {"jobs": 4, "parallel": 2}}, "model.search.parallel", "is for where: tuning-job"),
        ({"search": {"jobs": 2, "parallel": 3, "where": "tuning-job"}}, "model.search.parallel", "above jobs (2)"),
        ({"search": {"minutes": 1, "where": "tuning-job"}}, "model.search.minutes", "takes 2 at least"),
        ({"search": {"jobs": 501}}, "model.search.jobs", "501"),
        ({"search": {"where": "cloud"}}, "model.search.where", "use one of 'in-process' or 'tuning-job'"),
        ({"search": {"job": 5}}, "model.search.job", "did you mean jobs?"),
        ({"name": "custom"}, "model.source", "needs the folder of its scripts"),
        ({"name": "custom", "source": "./mine"}, "model.source", "s3://"),
        ({"source": "s3://bucket/mine/"}, "model.source", "rgcn brings its own code"),
        ({"transform_entry_point": "transform.py"}, "model.transform_entry_point", "is for name: custom"),
        (
            {"name": "custom", "source": "s3://bucket/a/", "training_entry_point": "../train.py"},
            "model.training_entry_point",
            "path of a .py file below model.source",
        ),
        (
            {"name": "custom", "source": "s3://bucket/a/", "hyperparameters": {"-x": 1}},
            "model.hyperparameters.'-x'",
            "passed to the script as --name",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(model: dict[str, Any], path: str, words: str) -> None:
    assert words in faults(**model)[path]


def test_a_custom_model_has_hyperparameters_of_its_own_and_a_prefix_that_ends_in_a_slash() -> None:
    own = {"depth": 3, "kind": "b", "use_it": True}
    model = parse_spec(document(name="custom", source="s3://bucket/mine", hyperparameters=own)).model
    assert model.source == "s3://bucket/mine/"
    assert model.scripts == ("training.py", "transform.py")
    assert model.hyperparameters == own


def test_a_local_folder_stands_for_scripts_where_somebody_uploads_it() -> None:
    spec = parse_spec(document(name="custom", source="./mine"), allow_local_source=True)
    assert spec.model.source == "./mine"


def test_what_is_not_asked_for_stays_out_of_the_ledger_as_earlier_versions_refuse_it() -> None:
    dumped = parse_spec(document()).model_dump(mode="json")["model"]
    assert dumped.keys() == {"name", "hyperparameters", "instance_type"}
    asked = parse_spec(document(search={"jobs": 3})).model_dump(mode="json")["model"]
    assert asked["search"] == {"jobs": 3, "parallel": 1, "where": "in-process"}
    assert parse_spec(document(**asked)).model.search is not None


def test_spot_is_said_only_where_it_is_asked_for() -> None:
    assert "spot" not in parse_spec(document()).model_dump(mode="json")["model"]
    assert "spot" not in parse_spec(document(spot=False)).model_dump(mode="json")["model"]
    assert parse_spec(document(spot=True)).model_dump(mode="json")["model"]["spot"] is True
    assert "model.spot" in faults(spot="often")
