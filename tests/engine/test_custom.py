"""Custom models: the example's own scripts, and scripts that go wrong in every way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden.contracts.spec import load_spec
from ekiden.contracts.tasks import Task
from ekiden_engine.custom import CustomModel
from ekiden_engine.custom_predictors import CustomEdgePredictor, CustomLinkPredictor, CustomNodePredictor
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.hpo import read_hpo
from ekiden_engine.hpo_objective import objective_of
from ekiden_engine.mlroot import ROOT_VARIABLE, MlRoot
from ekiden_engine.search import search
from tests.engine.search_factories import RATED, make_ratings
from tests.engine.test_hpo_search import Listener

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-model"
RATING = Target(task=Task.EDGE_REGRESSION, edge=RATED, property="rating", label_min=1.0, label_max=5.0)
OCCUPATION = Target(task=Task.NODE_CLASSIFICATION, node="user", property="occupation", classes=("a", "b"))
AGE = Target(task=Task.NODE_REGRESSION, node="user", property="age", label_min=-3.0, label_max=3.0)
LIKED = Target(task=Task.EDGE_CLASSIFICATION, edge=RATED, property="liked", classes=("no", "yes"))
LINKS = Target(task=Task.LINK_PREDICTION, edge=RATED)

DONE = "import os\nopen(os.path.join(os.environ['SM_MODEL_DIR'], 'model.txt'), 'w').write('done')\n"
"""A training script that has nothing to learn."""
BEGIN = """
import os, json
import numpy as np
out = os.environ["SM_OUTPUT_DIR"]
os.makedirs(out + "/embeddings"); os.makedirs(out + "/predictions")
rng = np.random.default_rng(0)
"""
VECTORS = 'np.savez(out + "/embeddings/entity.npz", user=rng.normal(size=(12, 4)), movie=rng.normal(size=(8, 4)))\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlRoot:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "ml"))
    return MlRoot(tmp_path / "ml")


def put(root: MlRoot, *targets: Target, training: str = DONE, transform: str = BEGIN, **files: str) -> EncodedGraph:
    """A training job's channels: graph, spec and scripts."""
    graph = make_ratings(12, 8, 60, *targets)
    processed, spec, source = (root.channel(name) for name in ("processed", "spec", "source"))
    for folder in (processed, spec, source):
        folder.mkdir(parents=True)
    graph.save(processed)
    (spec / "spec.json").write_text(json.dumps(document()), "utf-8")
    scripts = {
        "training.py": training,
        "transform.py": transform,
        **{n.replace("__", "."): t for n, t in files.items()},
    }
    for name, text in scripts.items():
        (source / name).write_text(text, "utf-8")
    return graph


def document(**model: Any) -> dict[str, Any]:
    target = {"edge": list(RATED), "property": "rating", "type": "regression"}
    chosen = {"name": "custom", "source": "s3://bucket/scripts/", **model}
    return {
        "version": 1,
        "name": "own",
        "graph": {"source": "s3://bucket/graph/"},
        "targets": [target],
        "model": chosen,
    }


def fit(graph: EncodedGraph, progress: Any = None, **given: str) -> Any:
    return CustomModel(given).fit(graph, graph.targets[0], progress or Listener())


def refused(graph: EncodedGraph, **given: str) -> BadData:
    with pytest.raises(BadData) as caught:
        fit(graph, **given)
    return caught.value


def example(root: MlRoot, seed: int = 0) -> EncodedGraph:
    """The job of the example, on a graph that can be learnt."""
    graph = make_ratings(60, 40, 1400, RATING, seed=seed)
    for name in ("processed", "spec"):
        root.channel(name).mkdir(parents=True)
    graph.save(root.channel("processed"))
    (root.channel("spec") / "spec.json").write_text(json.dumps(document()), "utf-8")
    shutil.copytree(EXAMPLE, root.channel("source"))
    return graph


def test_the_example_learns_is_served_without_its_code_and_shows_its_curve(root: MlRoot, tmp_path: Path) -> None:
    graph = example(root)
    fitted: Any = CustomModel({"num-factors": "4", "num-epochs": "6"}).fit(graph, RATING, Listener())
    # THEN the curve is what the script printed
    (curve,) = fitted.curves
    assert (curve.metric, curve.higher_is_better) == ("validation:rmse", False)
    assert 2 <= len(curve.points) <= 6
    # AND the model predicts better than the mean, out of a folder, without the scripts
    fitted.predictor.save(tmp_path)
    assert (tmp_path / "script/factors.npz").is_file()
    shutil.rmtree(root.channel("source"))
    loaded = CustomEdgePredictor.load(tmp_path)
    edges, labels = graph.edge(RATED), graph.labels(RATING)
    test = labels.rows(Split.TEST)
    assert labels.values is not None
    predicted = loaded.predict(edges.source[test], edges.dest[test])
    np.testing.assert_array_equal(predicted, fitted.predictor.predict(edges.source[test], edges.dest[test]))
    spread = float(np.std(labels.values[test]))
    assert float(np.sqrt(np.mean((predicted - labels.values[test]) ** 2))) < 0.7 * spread
    assert loaded.counts() == {"user": 60, "movie": 40}
    assert predicted.min() >= 1.0
    assert predicted.max() <= 5.0


def test_the_examples_spec_names_its_scripts_and_asks_for_a_search() -> None:
    spec = load_spec((EXAMPLE / "custom-ratings.yaml").read_text(), allow_local_source=True)
    assert spec.model.scripts == ("training.py", "transform.py")
    assert spec.model.searches_in == "in-process"
    assert all((EXAMPLE / script).is_file() for script in spec.model.scripts)


def test_the_examples_own_configuration_drives_a_search(root: MlRoot) -> None:
    graph = example(root)
    space = read_hpo(root.channel("source"))
    assert space is not None
    fitted = search(CustomModel, space, graph, RATING, Listener(), jobs=3, given={"num-epochs": "3"})
    assert [t["state"] for t in fitted.trials] == ["COMPLETE"] * 3
    assert fitted.trials[0]["hyperparameters"] == {"num-factors": "8", "regularization": "3.0"}
    assert {t["metric"] for t in fitted.trials} == {"validation:rmse"}
    values = [float(str(t["value"])) for t in fitted.trials]
    assert fitted.trials[values.index(min(values))]["best"]
    # what lost left nothing behind
    assert len(list((root.root / "custom").glob("fit-*"))) == 1


def test_scripts_get_the_arguments_and_variables_that_neptune_ml_gives(root: MlRoot) -> None:
    tell = (
        "import os, sys, json\n"
        "seen = {'argv': sys.argv[1:], 'env': dict(os.environ), 'cwd': os.getcwd()}\n"
        "json.dump(seen, open(os.path.join(os.environ['EKIDEN_ML_ROOT'], 'NAME.json'), 'w'))\n"
    )
    write = 'np.savez(out + "/predictions/result.npz", infer_scores=np.full((12, 2), 0.5))\n'
    graph = put(
        root, OCCUPATION, training=tell.replace("NAME", "train"), transform=tell.replace("NAME", "more") + BEGIN + write
    )
    fit(graph, **{"lr": "0.1", "kind-of-thing": "b", "_tuning_objective_metric": "x", "sagemaker_region": "y"})
    train, more = (json.loads((root.root / f"{name}.json").read_text()) for name in ("train", "more"))
    assert train["argv"] == [
        *("--task", "node_class", "--model", "custom", "--name", "node_class-custom"),
        *("--target_ntype", "user", "--property", "occupation", "--lr", "0.1", "--kind-of-thing", "b"),
    ]
    assert more["argv"] == []
    env = train["env"]
    assert env["SM_CHANNEL_TRAIN"] == more["env"]["SM_DATA_DIR"] == str(root.channel("processed"))
    assert env["SM_MODEL_DIR"] == more["env"]["SM_MODEL_DIR"]
    assert env["SM_OUTPUT_DIR"] != more["env"]["SM_OUTPUT_DIR"]
    assert json.loads(env["SM_HPS"]) == {"lr": "0.1", "kind-of-thing": "b"}
    assert env["SM_HP_KIND_OF_THING"] == "b"
    assert json.loads(env["SM_USER_ARGS"]) == ["--lr", "0.1", "--kind-of-thing", "b"]
    about = {"task": "node_class", "target_ntype": "user", "property": "occupation"}
    assert json.loads(env["EKIDEN_TARGET"]) == json.loads(more["env"]["EKIDEN_TARGET"]) == about
    assert train["cwd"] == env["SM_MODULE_DIR"] == str(root.channel("source"))


@pytest.mark.parametrize(
    ("target", "arguments", "variable"),
    [
        (
            RATING,
            ["--target_etype", '["user","rated","movie"]', "--property", "rating"],
            {"task": "edge_regression", "target_etype": ["user", "rated", "movie"], "property": "rating"},
        ),
        (
            LINKS,
            ["--target_etype", '["user","rated","movie"]'],
            {"task": "link_predict", "target_etype": ["user", "rated", "movie"]},
        ),
        (Target(task=Task.LINK_PREDICTION), [], {"task": "link_predict"}),
    ],
)
def test_both_scripts_are_told_the_target_and_only_the_first_by_arguments(
    root: MlRoot, target: Target, arguments: list[str], variable: dict[str, Any]
) -> None:
    tell = (
        "import os, sys, json\n"
        "told = [sys.argv[1:], json.loads(os.environ['EKIDEN_TARGET'])]\n"
        "json.dump(told, open(os.environ['EKIDEN_ML_ROOT'] + '/NAME.json', 'w'))\n"
    )
    training, transform = (tell.replace("NAME", name) for name in ("training", "transform"))
    fit(put(root, target, training=training, transform=transform + BEGIN + VECTORS))
    first, second = (json.loads((root.root / f"{name}.json").read_text()) for name in ("training", "transform"))
    task = variable["task"]
    assert first == [["--task", task, "--model", "custom", "--name", f"{task}-custom", *arguments], variable]
    assert second == [[], variable]


def test_without_checkpoints_a_script_has_a_folder_for_its_state_all_the_same_and_it_is_gone_afterwards(
    root: MlRoot,
) -> None:
    keep = (
        "import os\n"
        "open(os.environ['SM_CHECKPOINT_DIR'] + '/state', 'w').write('mine')\n"
        "open(os.environ['EKIDEN_ML_ROOT'] + '/place', 'w').write(os.environ['SM_CHECKPOINT_DIR'])\n"
    )
    fitted = fit(put(root, RATING, training=keep, transform=BEGIN + VECTORS))
    assert fitted.predictor.counts() == {"user": 12, "movie": 8}
    assert not Path((root.root / "place").read_text()).exists()
    assert not root.checkpoints.exists()


def test_a_script_that_fails_ends_the_job_for_good_with_its_last_words(root: MlRoot) -> None:
    graph = put(
        root, RATING, training="import sys\nprint('hello')\nsys.stderr.write('no such column: age\\n')\nsys.exit(7)\n"
    )
    failure = refused(graph)
    assert (failure.code, failure.exit_code) == ("CUSTOM_SCRIPT_FAILED", 65)
    assert failure.message == "training.py ended with exit code 7: no such column: age"
    assert list((root.root / "custom").glob("fit-*")) == []


def test_a_script_that_raises_shows_the_end_of_its_traceback(root: MlRoot) -> None:
    failure = refused(put(root, RATING, transform="raise KeyError('factors')"))
    assert failure.message.startswith("transform.py ended with exit code 1: ")
    assert "KeyError: 'factors'" in failure.message


def test_a_script_that_was_killed_says_by_what(root: MlRoot) -> None:
    failure = refused(put(root, RATING, training="import os\nos.kill(os.getpid(), 9)\n"))
    assert "was ended by signal 9 (out of memory?)" in failure.message


def test_what_a_script_leaves_running_does_not_hold_up_the_job_and_dies_with_it(root: MlRoot) -> None:
    leave = (
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "open(os.environ['EKIDEN_ML_ROOT'] + '/pid', 'w').write(str(child.pid))\n"
    )
    fit(put(root, RATING, training=leave, transform=BEGIN + VECTORS))
    pid = int((root.root / "pid").read_text())
    stat, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + 5
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.01)


def test_a_missing_script_is_named_with_what_is_there(root: MlRoot) -> None:
    graph = put(root, RATING)
    (root.channel("source") / "transform.py").unlink()
    failure = refused(graph)
    assert failure.code == "CUSTOM_SOURCE_MISSING"
    assert failure.message.startswith('model.source has no transform.py; it has "training.py"')


def test_requirements_are_installed_from_files_and_their_absence_is_plain(root: MlRoot, tmp_path: Path) -> None:
    # GIVEN a package beside the scripts, as a job without network has it
    write = BEGIN + VECTORS + "import tiny_ekiden_helper\nassert tiny_ekiden_helper.ANSWER == 42\n"
    graph = put(root, RATING, transform=write, requirements__txt="--no-index\n--find-links .\ntiny-ekiden-helper\n")
    wheel(root.channel("source"))
    fit(graph)
    # WHEN there is no such package, the job says so and what to do
    shutil.rmtree(root.root / "custom")
    next(root.channel("source").glob("*.whl")).unlink()
    failure = refused(graph)
    assert failure.code == "REQUIREMENTS_NOT_INSTALLED"
    assert "tiny-ekiden-helper" in failure.message
    assert "--find-links ./wheels" in failure.message


def wheel(folder: Path) -> None:
    """A pure-Python wheel, written by hand."""
    import zipfile

    about = "Metadata-Version: 2.1\nName: tiny-ekiden-helper\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = "tiny_ekiden_helper-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_ekiden_helper-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_ekiden_helper.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(
            f"{info}/RECORD", f"tiny_ekiden_helper.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def test_a_stop_reaches_the_script_and_what_it_saved_is_kept(root: MlRoot) -> None:
    # GIVEN a script that saves when it is told to end
    training = (
        "import os, signal, time\n"
        "def stop(*_):\n"
        "    open(os.environ['SM_CHECKPOINT_DIR'] + '/saved', 'w').write('yes')\n"
        "    raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready')\n"
        "time.sleep(60)\n"
    )
    graph = put(root, RATING, training=training, transform=BEGIN + VECTORS)
    progress = Listener()
    progress.stop_requested = lambda: "running training.py" in progress.notes  # type: ignore[method-assign]
    fitted = fit(graph, progress)
    assert fitted.stopped
    assert fitted.predictor.counts() == {"user": 12, "movie": 8}


def test_a_trial_that_is_broken_off_takes_its_script_with_it(root: MlRoot) -> None:
    own = {
        "tuning_objective": {"MetricName": "error", "Type": "Minimize"},
        "metric_definitions": [{"Name": "error", "Regex": "error=([0-9.]+)"}],
    }
    model = {"model": "custom", "task_type": "edge_regression", "eval_metric": own}
    lists: dict[str, Any] = {name: [] for name in ("1-tier-param", "2-tier-param", "3-tier-param", "fixed-param")}
    training = (
        "import os, time\n"
        "open(os.environ['EKIDEN_ML_ROOT'] + '/pid', 'w').write(str(os.getpid()))\n"
        "print('error=3')\n"
        "time.sleep(60)\n"
    )
    configuration = json.dumps({"models": [{**model, **lists}]})
    graph = put(root, RATING, training=training)
    (root.channel("source") / "model-HPO-configuration.json").write_text(configuration)

    class Enough(Exception):
        pass

    class Impatient(Listener):
        def epoch(self, *seen: Any) -> None:
            raise Enough

    with pytest.raises(Enough):
        fit(graph, Impatient())
    with pytest.raises(ProcessLookupError):
        os.kill(int((root.root / "pid").read_text()), 0)


def test_a_node_propertys_scores_are_served_and_unseen_nodes_get_the_mean(root: MlRoot, tmp_path: Path) -> None:
    write = BEGIN + 'np.savez(out + "/predictions/result.npz", infer_scores=np.arange(12.0))\n'
    fitted = fit(put(root, AGE, transform=write))
    fitted.predictor.save(tmp_path)
    loaded = CustomNodePredictor.load(tmp_path)
    np.testing.assert_allclose(loaded.predict(np.array([3, -1, 11], np.int32)), [3, 5.5, 11])
    assert loaded.known(np.array([3, -1], np.int32)).tolist() == [True, False]
    assert loaded.counts() == {"user": 12}
    assert loaded.embeddings("user") is None


@pytest.mark.parametrize(
    ("scores", "first"),
    [("np.tile([0.9, 0.1], (12, 1))", [0.9, 0.1]), ("np.tile([2.0, -1.0], (12, 1))", [0.952574, 0.047426])],
    ids=["probabilities", "logits"],
)
def test_class_scores_are_probabilities_or_made_into_them(root: MlRoot, scores: str, first: list[float]) -> None:
    write = f'np.savez(out + "/predictions/result.npz", infer_scores={scores})\n'
    fitted = fit(put(root, OCCUPATION, transform=BEGIN + VECTORS + write))
    np.testing.assert_allclose(fitted.predictor.predict(np.array([0], np.int32))[0], first, atol=1e-5)
    assert fitted.predictor.embeddings("movie").shape == (8, 4)


def test_classes_of_edges_need_a_row_of_relation_each(root: MlRoot, tmp_path: Path) -> None:
    write = BEGIN + VECTORS + 'np.save(out + "/embeddings/relation.npy", rng.normal(size=(2, 4)))\n'
    graph = put(root, LIKED, transform=write)
    fitted = fit(graph)
    fitted.predictor.save(tmp_path)
    loaded = CustomEdgePredictor.load(tmp_path)
    predicted = loaded.predict(np.array([0, -1], np.int32), np.array([1, 2], np.int32))
    assert predicted.shape == (2, 2)
    np.testing.assert_allclose(predicted.sum(1), 1, atol=1e-6)
    source, dest = loaded.known(np.array([0, -1], np.int32), np.array([1, 2], np.int32))
    assert (source.tolist(), dest.tolist()) == ([True, False], [True, True])
    assert fitted.curves[0].metric == "acc"


def test_links_are_inner_products_and_one_matrix_for_all_nodes_will_do(root: MlRoot, tmp_path: Path) -> None:
    write = 'vectors = rng.normal(size=(20, 4))\nnp.save(out + "/embeddings/entity.npy", vectors)\n'
    write += 'np.save(out + "/embeddings/relation.npy", np.array([1.0, 2.0, 3.0, 4.0]))\n'
    graph = put(root, LINKS, transform=BEGIN + write)
    fitted = fit(graph)
    fitted.predictor.save(tmp_path)
    loaded = CustomLinkPredictor.load(tmp_path)
    users, movies = loaded.embeddings("user"), loaded.embeddings("movie")
    assert users is not None
    assert movies is not None
    wanted = (users[[2]] * [1, 2, 3, 4]) @ movies.T
    some = np.array([2], np.int32)
    np.testing.assert_allclose(loaded.queries(0, "tail", some) @ loaded.items(0, "tail").T, wanted, rtol=1e-5)
    back = loaded.queries(0, "head", np.arange(8, dtype=np.int32)) @ loaded.items(0, "head").T
    np.testing.assert_allclose(back[:, [2]].T, wanted, rtol=1e-5)
    assert loaded.edge_types == (RATED,)
    found = objective_of(fitted, graph, LINKS)
    assert (found.name, found.higher_is_better) == ("mrr", True)
    assert 0 < found.value <= 1


RESULT = 'np.savez(out + "/predictions/result.npz", infer_scores={})\n'
ENTITY = 'np.savez(out + "/embeddings/entity.npz", {})\n'


@pytest.mark.parametrize(
    ("target", "transform", "words"),
    [
        (AGE, "", "predictions/result.npz is missing in SM_OUTPUT_DIR"),
        (AGE, RESULT.format("np.zeros(11)"), "shape (11,), wanted is (12,): 12 nodes of type user"),
        (OCCUPATION, RESULT.format("np.zeros((12, 3))"), "wanted is (12, 2): 12 nodes of type user by 2 classes"),
        (AGE, RESULT.format("np.full(12, np.nan)"), "not finite"),
        (AGE, 'np.savez(out + "/predictions/result.npz", x=np.zeros(12))', 'no array infer_scores (it has "x")'),
        (AGE, RESULT.format("np.array([{}] * 12, object)"), "without pickle"),
        (AGE, RESULT.format("np.array(['a'] * 12)"), "holds <U1, wanted are numbers"),
        (AGE, 'open(out + "/predictions/result.npz", "w").write("x")', "without pickle"),
        (RATING, "", "embeddings/entity.npz is missing: edge_regression needs a vector per node"),
        (RATING, ENTITY.format("user=np.zeros((12, 4))"), 'has no array "movie"'),
        (RATING, ENTITY.format("user=np.zeros((12, 4)), movie=np.zeros((8, 3))"), "one width; found user 4, movie 3"),
        (RATING, ENTITY.format("user=np.zeros((12, 4)), film=np.zeros((8, 4))"), '"film" is no node type'),
        (RATING, 'np.save(out + "/embeddings/entity.npy", np.zeros((19, 4)))', "wanted is (20, d)"),
        (LIKED, VECTORS, "embeddings/relation.npy is missing: 2 classes need a row each, float [2, 4]"),
        (LIKED, VECTORS + 'np.save(out + "/embeddings/relation.npy", np.ones(4))', "has one row, wanted are 2"),
        (LINKS, VECTORS + 'np.save(out + "/embeddings/relation.npy", np.ones((3, 4)))', "wanted is (1, 4)"),
    ],
)  # fmt: skip
def test_output_that_cannot_be_served_is_named_with_what_is_wanted(
    root: MlRoot, target: Target, transform: str, words: str
) -> None:
    failure = refused(put(root, target, transform=BEGIN + transform))
    assert failure.code == "BAD_CUSTOM_OUTPUT"
    assert words in failure.message


@pytest.mark.parametrize("name", ["custom.json", "custom.safetensors"])
def test_a_corrupt_model_folder_is_refused(root: MlRoot, tmp_path: Path, name: str) -> None:
    fit(put(root, RATING, transform=BEGIN + VECTORS)).predictor.save(tmp_path)
    (tmp_path / name).write_text("{}")
    with pytest.raises(BadData) as caught:
        CustomEdgePredictor.load(tmp_path)
    assert caught.value.code == "CORRUPT_ARTIFACT"


def test_a_hyperparameter_that_no_command_line_can_have_is_refused() -> None:
    with pytest.raises(BadData, match="cannot be an argument"):
        CustomModel({"--task": "x"})


def test_threads_that_read_a_script_do_not_outlive_it(root: MlRoot) -> None:
    graph = put(root, RATING, transform=BEGIN + VECTORS)
    before = threading.active_count()
    fit(graph)
    assert threading.active_count() <= before
    assert signal.getsignal(signal.SIGTERM) is not None
