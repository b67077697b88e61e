"""``targets`` of a spec: what can be predicted, by which model, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ekiden.contracts.spec import MAX_TARGETS, SpecError, parse_spec
from ekiden.contracts.tasks import MODEL_TASKS, Task

EDGE = ["user", "rated", "movie"]
RATING = {"edge": EDGE, "property": "rating", "type": "regression"}
TOPIC = {"node": "paper", "property": "topic", "type": "classification"}
LINKS = {"edge": EDGE, "type": "link_prediction"}
EVERY = {"type": "link_prediction"}


def document(*targets: dict[str, Any], model: str = "rgcn", **more: Any) -> dict[str, Any]:
    own = {"source": "s3://bucket/scripts/"} if model == "custom" else {}
    whole = {"version": 1, "name": "a", "graph": {"source": "s3://bucket/g/"}, "targets": list(targets)}
    return {**whole, "model": {"name": model, **own}, **more}


def faults(*targets: dict[str, Any], model: str = "rgcn", **more: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(document(*targets, model=model, **more))
    return {fault.path: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("target", "task", "subject", "split"),
    [
        (TOPIC, Task.NODE_CLASSIFICATION, "paper", (0.8, 0.1, 0.1)),
        ({**TOPIC, "type": "regression"}, Task.NODE_REGRESSION, "paper", (0.8, 0.1, 0.1)),
        ({**RATING, "type": "classification"}, Task.EDGE_CLASSIFICATION, "(user)-rated-(movie)", (0.8, 0.1, 0.1)),
        (RATING, Task.EDGE_REGRESSION, "(user)-rated-(movie)", (0.8, 0.1, 0.1)),
        (LINKS, Task.LINK_PREDICTION, "(user)-rated-(movie)", (0.9, 0.05, 0.05)),
        (EVERY, Task.LINK_PREDICTION, "all edge types", (0.9, 0.05, 0.05)),
    ],
)
def test_node_edge_and_type_say_the_task(
    target: dict[str, Any], task: Task, subject: str, split: tuple[float, float, float]
) -> None:
    (found,) = parse_spec(document(target)).predicts

    assert (found.task, found.subject, found.split) == (task, subject, split)


def test_a_spec_without_targets_predicts_the_links_of_every_edge_type() -> None:
    spec = parse_spec({"version": 1, "name": "a", "graph": {"source": "s3://bucket/g/"}})

    assert spec.targets == []
    assert [target.task for target in spec.predicts] == [Task.LINK_PREDICTION]
    assert spec.predicts[0].edge is None


def test_several_targets_stand_in_one_spec() -> None:
    spec = parse_spec(document(RATING, TOPIC, LINKS))

    assert [target.task for target in spec.predicts] == [
        Task.EDGE_REGRESSION,
        Task.NODE_CLASSIFICATION,
        Task.LINK_PREDICTION,
    ]
    assert parse_spec(json.loads(spec.model_dump_json(exclude_none=True))) == spec


def test_there_are_at_most_eight_targets() -> None:
    many = [{**TOPIC, "property": f"p{number}"} for number in range(MAX_TARGETS + 1)]

    assert len(parse_spec(document(*many[:MAX_TARGETS])).targets) == 8
    assert faults(*many) == {"targets": "takes at most 8 of them; found 9"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({**RATING, "node": "user"}, "give either node or edge, not both"),
        ({"type": "regression", "property": "x"}, "give node: the label of the nodes, or edge: three names"),
        ({"node": "paper", "type": "classification"}, "give property: what the classification is to predict"),
        ({"edge": EDGE, "type": "regression"}, "give property: what the regression is to predict"),
        ({**LINKS, "property": "rating"}, "a link has no property to predict"),
        ({"node": "user", "type": "link_prediction"}, "links are edges: give edge, or neither"),
        ({**RATING, "separator": ";"}, "separator is for classification"),
    ],
)
def test_a_target_is_one_thing(target: dict[str, Any], message: str) -> None:
    assert message in faults(target)["targets[0]"]


@pytest.mark.parametrize(
    "twice",
    [
        (TOPIC, {**TOPIC, "type": "regression"}),
        (LINKS, LINKS),
        (EVERY, EVERY),
        ({**TOPIC, "node": ["paper", "article"]}, {**TOPIC, "node": "article;paper"}),
    ],
)
def test_nothing_is_predicted_twice(twice: tuple[dict[str, Any], ...]) -> None:
    assert faults(*twice) == {"targets[1]": "predicts the same as targets[0]; remove one of them"}


@pytest.mark.parametrize("model", MODEL_TASKS)
@pytest.mark.parametrize("target", [TOPIC, {**TOPIC, "type": "regression"}, RATING, LINKS])
def test_a_model_is_trained_only_for_what_it_can_do(model: str, target: dict[str, Any]) -> None:
    task = parse_spec(document(target)).predicts[0].task
    if task in MODEL_TASKS[model]:
        assert parse_spec(document(target, model=model)).predicts[0].task is task
        return

    message = faults(target, model=model)["model.name"]

    assert message.startswith(f"{model} cannot do {task} (targets[0]); use one of rgcn, ")


def test_the_readme_shows_what_each_model_can_do() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    table = text.split("<!-- models: begin -->")[1].split("<!-- models: end -->")[0]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line]

    shown = {
        row[0].strip("`"): {
            Task(task.replace(" ", "_")) for task, mark in zip(header[1:], row[1:], strict=True) if mark
        }
        for row in rows
    }

    assert shown == MODEL_TASKS


def test_a_model_that_knows_no_links_needs_a_target() -> None:
    assert "fm cannot do link_prediction (a spec without targets)" in faults(model="fm")["model.name"]


def test_a_target_is_no_feature_of_its_own_nodes_but_may_be_of_others() -> None:
    topic = {"node": "paper", "property": "topic", "type": "category"}

    found = faults(TOPIC, features=[topic, {**topic, "node": "book"}])

    assert found == {
        "features[0]": "is the target's own property: the model would be told the answer; remove it",
    }


def test_what_a_target_does_not_say_stays_out_of_the_ledger() -> None:
    """An earlier version reads the specs of runs that a later one took, and refuses fields that it does not know."""
    stored = parse_spec(document(RATING)).model_dump(mode="json")["targets"][0]

    assert set(stored) == {"edge", "property", "type", "split_rate", "custom_split_filenames"}
