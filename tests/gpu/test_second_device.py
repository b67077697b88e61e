"""Every torch model on a pretended second device: nothing is left behind on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.kernels import EdgeMatrix, aggregate, gather
from tests.engine.checkpoint_factories import JOBS, MEMBERS, Interruption, fit_first
from tests.gpu.second_device import PRETENDED, Away, MixedDevices, pretended_gpu


def test_the_pretended_device_refuses_what_a_gpu_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        there, here = torch.ones(3, device=PRETENDED), torch.ones(3)
        assert isinstance(there, Away)
        assert there.device == PRETENDED
        with pytest.raises(MixedDevices):
            there + here
        with pytest.raises(MixedDevices):
            there[torch.tensor([0, 1])]
        with pytest.raises(TypeError, match="convert cuda"):
            there.numpy()
        assert (there + 1).cpu().numpy().tolist() == [2, 2, 2]
        assert float((there * here.to(PRETENDED)).sum()) == 3


def test_the_kernels_work_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.array([0, 0, 2]), np.array([1, 0, 1])
    values = np.array([1.0, 2.0, 3.0], np.float32)

    def results(device: torch.device) -> list[list[float]]:
        matrix = EdgeMatrix(rows, columns, values, (3, 2), device)
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(device).requires_grad_()
        matrix.hide(torch.tensor([1]).to(device))
        found = gather(aggregate(matrix, x), torch.tensor([0, 2, 2]).to(device))
        (found * found).sum().backward()  # type: ignore[no-untyped-call]
        matrix.show(torch.tensor([1]).to(device))
        assert x.grad is not None
        return [*found.detach().cpu().tolist(), *x.grad.cpu().tolist(), *aggregate(matrix, x).detach().cpu().tolist()]

    expected = results(torch.device("cpu"))
    with pretended_gpu(monkeypatch):
        assert results(PRETENDED) == expected


@pytest.mark.parametrize("half", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in JOBS if name != "fm"])
def test_a_training_there_is_the_one_here(
    name: str, half: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    here = fit_first(graph, model, hyperparameters, Interruption(tmp_path / "here"))
    assert here.device == "cpu"
    with pretended_gpu(monkeypatch, half=half):
        there = fit_first(graph, model, hyperparameters, Interruption(tmp_path / "there"))
    assert there.device == "pretended"
    mine, its = ([curve.best_valid for curve in fit.curves] for fit in (here, there))
    if name == "nodes":  # dropout is drawn on the device
        assert np.mean(its) == pytest.approx(np.mean(mine), abs=0.1)
    else:
        assert its == pytest.approx(mine, rel=1e-6 if half is torch.float32 else 0.1)


@pytest.mark.parametrize("name", [name for name in JOBS if name != "fm"])
def test_a_training_there_can_be_interrupted_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_graph, model, hyperparameters = JOBS[name]
    graph = make_graph()
    with pretended_gpu(monkeypatch):
        whole = fit_first(graph, model, hyperparameters, Interruption(tmp_path / "a"))
        fit_first(graph, model, hyperparameters, Interruption(tmp_path / "b", 25 if name in MEMBERS else 3))
        found = fit_first(graph, model, hyperparameters, last := Interruption(tmp_path / "b"))
    assert last.resumed
    assert isinstance(last.checkpoints, Checkpoints)
    assert [c.best_valid for c in found.curves] == [c.best_valid for c in whole.curves]
