"""A pretended GPU: tensors that say they are on `cuda:0`, and are computed on the CPU.

An operation on tensors of both devices raises, as it would with a GPU; so does `numpy()` of one that is not on the CPU.
Values are real, so whole trainings run, and give what they give on the CPU. It shows that nothing is left on the wrong
device; it shows nothing about CUDA's own kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from ekiden_engine.models import device as devices

PRETENDED = torch.device("cuda", 0)
COPIES = {"copy_", "_copy_from", "_local_scalar_dense"}
"""Operations that may have tensors of both devices."""


class MixedDevices(RuntimeError):
    """What PyTorch would say: expected all tensors to be on the same device."""


class Away(torch.Tensor):
    """A tensor on the pretended device, around one of the CPU."""

    around: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Away:
        if inner.layout is not torch.strided:
            found = torch.Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype)
        else:
            found = torch.Tensor._make_wrapper_subclass(
                cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype
            )
        found.around = inner
        return found

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return PRETENDED

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {**(kwargs or {})}
        tensors = [x for x in tree_flatten((args, given))[0] if isinstance(x, torch.Tensor)]
        name = func.__name__.partition(".")[0]
        plain = [x for x in tensors if not isinstance(x, Away) and x.dim()]
        if plain and name not in COPIES:
            raise MixedDevices(f"{name}: tensors on cuda:0 and of shape {[*plain[0].shape]} on the CPU")
        written = [x for x in args[:1] if isinstance(x, Away)] if name.endswith("_") else []
        found = func(*tree_map(_inner, args), **tree_map(_inner, given))
        if written:
            return written[0]
        return tree_map(lambda x: Away(x) if isinstance(x, torch.Tensor) and not isinstance(x, Away) else x, found)


def _inner(x: Any) -> Any:
    return x.around if isinstance(x, Away) else x


class _Engine(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tensors that PyTorch itself makes of nothing, within an operation or a backward pass, are on its device."""

    python = 0
    """Calls from Python under way that know of no tensor there: those say themselves where theirs are."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        made = isinstance(found, torch.Tensor) and not isinstance(found, Away) and not _Engine.python
        return Away(found) if made and not any(isinstance(x, torch.Tensor) for x in args) else found


class _Moves(TorchFunctionMode):
    """What goes to the pretended device, and comes from there."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {**(kwargs or {})}
        if isinstance(func, torch._ops.OpOverload):  # from inside, not from Python code of ours
            return func(*args, **given)
        name = getattr(func, "__name__", "")
        if name == "backward":
            return self._backward(args[0], given.get("gradient", given.get("grad_tensors")))
        if name == "cpu":
            return args[0].around.detach() if isinstance(args[0], Away) else args[0]
        if name == "pin_memory":
            return args[0]
        if name == "to" and len(args) > 1 and isinstance(args[1], torch.device):
            return self._moved(args[0], args[1])
        device = given.pop("device", None)
        alone = not any(isinstance(x, Away) for x in tree_flatten((args, given))[0])
        _Engine.python += alone
        try:
            if device is None:
                return func(*args, **given)
            found = func(*args, **given) if torch.device(device).type == "cuda" else func(*args, device=device, **given)
        finally:
            _Engine.python -= alone
        return self._moved(found, torch.device(device))

    def _backward(self, tensors: Any, gradients: Any) -> None:
        """What the engine calls of ours must pass here, too, so this mode stays entered meanwhile."""
        several = [tensors] if isinstance(tensors, torch.Tensor) else [*tensors]
        if gradients is None:
            gradients = [torch.ones_like(t) for t in several]
        given = [gradients] if isinstance(gradients, torch.Tensor) else [*gradients]
        with self:
            torch.autograd.Variable._execution_engine.run_backward(
                tuple(several), tuple(given), False, False, (), allow_unreachable=True, accumulate_grad=True
            )

    @staticmethod
    def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        if device.type == "cuda":
            return tensor if isinstance(tensor, Away) else Away(tensor)
        return tensor.around if isinstance(tensor, Away) else tensor


@contextmanager
def pretended_gpu(patch: pytest.MonkeyPatch, *, half: torch.dtype = torch.float32) -> Iterator[None]:
    """While entered, models train on the pretended device, whose short floating-point type is `half`."""
    modules = [
        *("kge", "kge_training", "links_rgcn", "links_encoder"),
        *("nodes", "nodes_network", "nodes_fitting", "rgcn", "fitting", "encoder"),
    ]
    made = {
        "pick_device": lambda: PRETENDED,
        "device_name": lambda device: "pretended",
        "half_of": lambda device: half,
        "generator_on": lambda device, seed: torch.Generator().manual_seed(seed),
    }
    for module in modules:
        for name, function in made.items():
            patch.setattr(f"ekiden_engine.models.{module}.{name}", function, raising=False)
    with _Moves(), _Engine():  # type: ignore[no-untyped-call]
        yield


assert devices.PINNED  # the real module is what is patched in the others
