"""Every torch model on a real GPU beside the CPU: `make test-gpu`. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.errors import BadData
from ekiden_engine.kernels import EdgeMatrix, aggregate, gather
from ekiden_engine.models.device import DEVICE_VARIABLE, device_name, half_of, on, pick_device
from tests.engine.checkpoint_factories import JOBS, MEMBERS, Interruption, fit_first

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
TOLERANCE = {torch.float32: 0.02, torch.bfloat16: 0.1}
"""Relative, of the best validation figure: sums in another order lead training along another path."""


@needs_cuda
@pytest.mark.parametrize("name", [name for name in JOBS if name != "fm"])
def test_a_model_trained_on_the_gpu_is_as_good_as_on_the_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    there = fit_first(graph, model, hyperparameters, Interruption(tmp_path / "there"))
    assert there.device == torch.cuda.get_device_name()
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    here = fit_first(graph, model, hyperparameters, Interruption(tmp_path / "here"))
    assert here.device == "cpu"
    mine, its = (np.mean([curve.best_valid for curve in fit.curves if curve.kept]) for fit in (here, there))
    assert its == pytest.approx(mine, rel=TOLERANCE[half_of(torch.device("cuda"))], abs=0.1 if name == "nodes" else 0)


@needs_cuda
@pytest.mark.parametrize("name", [name for name in JOBS if name != "fm"])
def test_a_training_on_the_gpu_is_resumed(name: str, tmp_path: Path) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    stopped = fit_first(graph, model, hyperparameters, Interruption(tmp_path, 25 if name in MEMBERS else 3))
    assert stopped.stopped
    found = fit_first(graph, model, hyperparameters, last := Interruption(tmp_path))
    assert last.resumed
    assert isinstance(last.checkpoints, Checkpoints)
    assert not found.stopped


@needs_cuda
def test_the_kernels_give_on_the_gpu_what_they_give_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 500, 4000), rng.integers(0, 300, 4000)
    values, dense = rng.normal(size=4000).astype(np.float32), rng.normal(size=(300, 17)).astype(np.float32)
    index, hidden = rng.integers(0, 500, 2000), np.unique(rng.integers(0, 4000, 100))

    def results(device: torch.device) -> list[np.ndarray]:
        matrix = EdgeMatrix(rows, columns, values, (500, 300), device)
        x = on(device, dense).requires_grad_()
        matrix.hide(on(device, hidden))
        found = gather(aggregate(matrix, x), on(device, index))
        found.square().sum().backward()  # type: ignore[no-untyped-call]
        matrix.show(on(device, hidden))
        assert x.grad is not None
        return [t.detach().cpu().numpy() for t in (found, x.grad, aggregate(matrix, x))]

    for here, there in zip(results(torch.device("cpu")), results(torch.device("cuda")), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_the_device_is_the_gpu_if_there_is_one_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    assert pick_device() == torch.device("cpu")
    assert device_name(torch.device("cpu")) == "cpu"
    for bad, words in (("gpu", "use cpu, cuda or cuda:<n>"), ("cuda:x", "use cpu"), ("cuda:99", "does not have")):
        monkeypatch.setenv(DEVICE_VARIABLE, bad)
        with pytest.raises(BadData, match=words):
            pick_device()


def test_an_array_becomes_a_tensor_of_the_device() -> None:
    values = np.arange(10, dtype=np.float32)
    tensor = on(torch.device("cpu"), values[::2])
    assert tensor.tolist() == [0, 2, 4, 6, 8]
    assert half_of(torch.device("cpu")) in (torch.float32, torch.bfloat16)
