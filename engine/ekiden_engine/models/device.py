"""Where torch computes: on a CUDA GPU if there is one, else on the CPU.

`EKIDEN_DEVICE` decides otherwise: `cpu`, `cuda` or `cuda:<n>`. Models whose loops are numpy or numba (`fm`, the closed
forms) always run on the CPU. Weights, their updates and everything that is summed are float32 on every device; only
matrix products that score candidates or transform features may be computed in half the bits (`half_of`).
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ekiden_engine.errors import BadData, quoted

DEVICE_VARIABLE: Final = "EKIDEN_DEVICE"
CPU: Final = torch.device("cpu")


def pick_device() -> torch.device:
    """The device of a training. Raises `BadData` BAD_DEVICE if the variable names none that is there."""
    wanted = os.environ.get(DEVICE_VARIABLE, "").strip()
    there = torch.cuda.is_available()
    if wanted in ("", "auto"):
        return torch.device("cuda", torch.cuda.current_device()) if there else CPU
    kind, _, number = wanted.partition(":")
    if kind == "cpu" and not number:
        return CPU
    if kind != "cuda" or (number and not (number.isdecimal() and len(number) < 4)):
        raise BadData("BAD_DEVICE", f"{DEVICE_VARIABLE} is {quoted(wanted)}: use cpu, cuda or cuda:<n>")
    if not there or int(number or 0) >= torch.cuda.device_count():
        raise BadData("BAD_DEVICE", f"{DEVICE_VARIABLE} is {quoted(wanted)}, which this machine does not have")
    return torch.device("cuda", int(number or 0))


def device_name(device: torch.device) -> str:
    """`cpu`, or what the GPU is called: for reports."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def half_of(device: torch.device) -> torch.dtype:
    """The type for large matrix products: bfloat16 where the device multiplies it natively (GPUs since Ampere,
    processors with AMX), else float32, since emulated it would be slower. It has float32's range, so that no loss needs
    scaling."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return torch.bfloat16 if native else torch.float32


def on(device: torch.device, values: npt.NDArray[Any]) -> Tensor:
    """An array as a tensor of `device`; on the CPU it shares the array's memory."""
    found = torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda":
        return found.to(device)
    return found.pin_memory().to(device, non_blocking=True) if found.numel() >= PINNED else found.to(device)


PINNED: Final = 1 << 16
"""Entries from which pinning pays: it is a copy of its own."""


def array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor of any device as an array."""
    found: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A source of random numbers of `device`."""
    return torch.Generator(device).manual_seed(seed)
