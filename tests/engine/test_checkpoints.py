"""Checkpoints: what is kept, what is refused, and that a resumed training equals one that was never interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ekiden_engine import checkpoints as module
from ekiden_engine.checkpoint_fits import load_fit, save_fit
from ekiden_engine.checkpoints import Checkpoints, checkpoints_of, fingerprint_of, open_checkpoints
from ekiden_engine.custom_predictors import CustomNodePredictor
from ekiden_engine.models.base import Fit, Progress
from tests.engine.checkpoint_factories import FINGERPRINT, JOBS, MEMBERS, Interruption, fit_first, saved_bytes
from tests.engine.factories import make_encoded_graph
from tests.engine.links_factories import Recorder

OTHER = "f" * 64


def never() -> bool:
    return False


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return open_checkpoints(tmp_path, FINGERPRINT, never)


def only_file(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*") if path.is_file())
    return found


def test_a_state_comes_back_as_it_was(kept: Checkpoints, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    state = random.bit_generator.state
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2], "seen": np.array([True, False])}
    kept.within("target-0").save("training", {"epoch": 3, "random": state, "bad": float("nan")}, arrays)
    # WHEN a later start opens the same folder
    found = open_checkpoints(tmp_path, FINGERPRINT, never).within("target-0").load("training")
    # THEN
    assert found is not None
    assert found.document["random"] == state
    assert np.isnan(found.document["bad"])
    assert found.arrays["x"].tolist() == [[0, 2], [3, 5]]
    assert found.arrays["seen"].dtype == np.bool_
    assert kept.within("target-1").load("training") is None


def test_a_state_without_arrays_is_fine_and_the_last_one_of_a_name_counts(kept: Checkpoints, tmp_path: Path) -> None:
    kept.save("a", {"n": 1}, {})
    kept.save("a", {"n": 2}, {})
    found = kept.load("a")
    assert found is not None
    assert (found.document, found.arrays) == ({"n": 2}, {})
    assert only_file(tmp_path).suffix == ".safetensors"


@pytest.mark.parametrize("cut", [0, 7, 200, -1])
def test_a_torn_file_is_ignored_with_a_line(
    kept: Checkpoints, tmp_path: Path, capfd: pytest.CaptureFixture[str], cut: int
) -> None:
    kept.save("a", {"n": 1}, {"x": np.ones(100)})
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:cut])
    assert kept.load("a") is None
    assert "checkpoint a ignored: " in capfd.readouterr().out


def test_a_flipped_bit_and_a_file_from_elsewhere_are_ignored(
    kept: Checkpoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept.save("a", {"n": 1}, {"x": np.ones(100)})
    file = only_file(tmp_path)
    (file.parent / "b.safetensors").write_bytes(file.read_bytes())
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    assert kept.load("a") is None
    assert kept.load("b") is None
    assert capfd.readouterr().out.count("SHA-256") == 2


def test_what_is_of_other_data_is_left_alone_with_a_line(
    kept: Checkpoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept.save("a", {"n": 1}, {})
    (tmp_path / "of-a-script.pt").write_bytes(b"x")
    others = open_checkpoints(tmp_path, OTHER, never)
    assert capfd.readouterr().out == "checkpoints of 1 other training ignored: of other data, settings or versions\n"
    assert others.load("a") is None
    # AND not even if it lies in the right place
    others.save("a", {"n": 2}, {})
    for file in tmp_path.rglob("a.safetensors"):
        if FINGERPRINT[:16] in file.as_posix():
            (tmp_path / OTHER[:16] / "a.safetensors").write_bytes(file.read_bytes())
    assert others.load("a") is None
    # AND clearing ours leaves theirs
    others.clear()
    assert kept.load("a") is not None
    assert not (tmp_path / OTHER[:16]).exists()
    assert (tmp_path / "of-a-script.pt").exists()


def test_without_the_folder_nothing_is_kept(tmp_path: Path) -> None:
    for none in (open_checkpoints(tmp_path / "absent", FINGERPRINT, lambda: True), Checkpoints()):
        none.save("a", {}, {})
        none.save_folder("b", lambda folder: folder.joinpath("x").touch())
        none.remove_levels("a")
        none.clear()
        assert not none.due()
        assert not none.kept
        assert none.within("a").load("a") is None
        assert none.folder("a") is None
    assert list(tmp_path.iterdir()) == []
    without: Progress = Recorder()
    assert not checkpoints_of(without).kept


def test_states_are_due_after_a_while_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = False
    kept = open_checkpoints(tmp_path, FINGERPRINT, lambda: stopping)
    assert not kept.due()
    stopping = True
    assert kept.due()
    monkeypatch.setenv(module.SECONDS_VARIABLE, "0")
    assert open_checkpoints(tmp_path, FINGERPRINT, never).due()


def test_what_is_too_large_or_cannot_be_written_does_not_end_the_training(
    kept: Checkpoints, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    kept.save("a", {}, {"x": np.ones(100)})
    assert kept.load("a") is None
    kept.save("b", {}, {})
    assert "too large to be kept" in capfd.readouterr().out
    # AND a file in the way of the folder
    (tmp_path / "file").write_text("")
    blocked = open_checkpoints(tmp_path, OTHER, never)
    (tmp_path / OTHER[:16]).write_text("in the way")
    blocked.within("target-0").save("a", {}, {})
    assert "WARNING: checkpoints: a state could not be written" in capfd.readouterr().out


def test_a_fingerprint_is_of_every_part() -> None:
    parts = {"model": {"name": "fm"}, "processed": "x"}
    assert fingerprint_of(parts) == fingerprint_of(dict(reversed(parts.items())))
    assert len({fingerprint_of(parts), fingerprint_of({**parts, "processed": "y"}), fingerprint_of({})}) == 3


@pytest.mark.parametrize("name", JOBS)
def test_a_resumed_training_is_to_the_bit_the_one_that_was_not_interrupted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    whole = Interruption(tmp_path / "a")
    expected = fit_first(graph, model, hyperparameters, whole)

    # WHEN it is interrupted twice on the way
    again, stops = tmp_path / "b", (len(whole.epochs) // 3, len(whole.epochs) // 4)
    stopped = fit_first(graph, model, hyperparameters, first := Interruption(again, stops[0]))
    assert stopped.stopped
    stopped = fit_first(graph, model, hyperparameters, second := Interruption(again, stops[1]))
    assert stopped.stopped
    found = fit_first(graph, model, hyperparameters, last := Interruption(again))

    # THEN model and learning curves are the same, and no more was computed than epochs that were broken off
    assert not found.stopped
    assert saved_bytes(found, tmp_path / "found") == saved_bytes(expected, tmp_path / "expected")
    assert [[p.valid for p in c.points] for c in found.curves] == [[p.valid for p in c.points] for c in expected.curves]
    assert second.resumed
    assert last.resumed
    assert len(last.epochs) < len(whole.epochs)
    assert last.told_again + len(last.epochs) == len(whole.epochs)
    if name not in MEMBERS:  # whose members are the smallest unit
        assert len(first.epochs) + len(second.epochs) + len(last.epochs) <= len(whole.epochs) + 2


def test_a_fit_comes_back_with_its_predictor_and_an_incomplete_one_does_not(
    kept: Checkpoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = make_encoded_graph()
    fit = fit_first(graph, "fm", JOBS["fm"][2], Interruption(tmp_path / "elsewhere"))
    save_fit(kept, "fit", fit)
    found = load_fit(kept, "fit")
    assert found is not None
    assert saved_bytes(found, tmp_path / "x") == saved_bytes(fit, tmp_path / "y")
    assert (found.curves, found.hyperparameters) == (fit.curves, fit.hyperparameters)
    # GIVEN it was uploaded in part only
    folder = kept.folder("fit")
    assert folder is not None
    next(path for path in folder.iterdir() if path.suffix == ".safetensors").unlink()
    # THEN
    assert load_fit(kept, "fit") is None
    assert "checkpoint fit ignored: " in capfd.readouterr().out
    assert load_fit(kept, "another") is None


def test_the_files_of_a_users_script_come_back_with_its_predictor(kept: Checkpoints, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.mkdir()
    (script / "weights.bin").write_bytes(b"mine")
    predictor = CustomNodePredictor({"scores": np.ones((3, 2), np.float32)}, {"label": "user"}, script)
    fit = Fit(predictor, (), {"lr": "1"}, False, 1)
    save_fit(kept, "fit", fit)
    found = load_fit(kept, "fit")
    assert found is not None
    assert saved_bytes(found, tmp_path / "x") == saved_bytes(fit, tmp_path / "y")
    assert (tmp_path / "x/script/weights.bin").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["edges", "links"])
def test_a_long_epoch_is_broken_off_by_a_stop_and_done_again_by_the_next_start(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph, settings = make_graph(), {**hyperparameters, "batch-size": "8" if name == "links" else "64"}
    expected = fit_first(graph, model, settings, Interruption(tmp_path / "a"))
    monkeypatch.setenv(module.SECONDS_VARIABLE, "0")
    monkeypatch.setattr("ekiden_engine.models.passes.LONG_EPOCH", 0.0)

    class Sudden(Interruption):
        """SIGTERM comes in the middle of the fourth epoch."""

        asked = 0

        def stop_requested(self) -> bool:
            self.asked += len(self.epochs) == 3
            return self.asked > 3

    stopped = fit_first(graph, model, settings, sudden := Sudden(tmp_path / "b"))
    assert (stopped.stopped, sudden.epochs) == (True, [1, 2, 3])
    assert [len(curve.points) for curve in stopped.curves] == [3]
    found = fit_first(graph, model, settings, last := Interruption(tmp_path / "b"))
    assert last.told_again > 0
    assert saved_bytes(found, tmp_path / "found") == saved_bytes(expected, tmp_path / "expected")
