"""Arrays in npz files: anyone can read ours, we read anyone's, and large ones are mapped."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden_engine import npz
from ekiden_engine.npz import load_arrays, save_arrays


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "source": random.integers(0, 99, 1_000).astype(np.int32),
        "a_name_of_another_length": random.normal(size=(50, 3)).astype(np.float32),
        "fortran": np.asfortranarray(random.normal(size=(40, 5))),
        "split": random.integers(0, 3, 777).astype(np.uint8),
        "empty": np.empty((0, 4), np.float32),
    }


def is_mapped(array: Any) -> bool:
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = getattr(array, "base", None)
    return False


@pytest.mark.parametrize("writer", [save_arrays, lambda path, given: np.savez(path, **given)])
@pytest.mark.parametrize("smallest", [0, 1 << 20])
def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Any, smallest: int) -> None:
    monkeypatch.setattr(npz, "MAPPED_BYTES", smallest)
    given = arrays()
    writer(tmp_path / "a.npz", given)
    found = load_arrays(tmp_path / "a.npz", given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert all(np.array_equal(archive[name], array) for name, array in given.items())
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_large_arrays_are_mapped_and_writing_to_them_leaves_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a file of ours in which one array is large
    monkeypatch.setattr(npz, "MAPPED_BYTES", 3_000)
    path = tmp_path / "a.npz"
    save_arrays(path, arrays())
    # WHEN read
    found = load_arrays(path, arrays())
    # THEN it is mapped, aligned, and may be written to
    assert is_mapped(found["source"])
    assert found["source"].flags.aligned
    assert not is_mapped(found["split"])
    found["source"][:] = -1
    assert np.array_equal(load_arrays(path, ["source"])["source"], arrays()["source"])


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_arrays(tmp_path / name, arrays())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_array_and_objects_are_refused(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.npz", {"x": np.arange(3)})
    with pytest.raises(KeyError):
        load_arrays(tmp_path / "a.npz", ["y"])
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(tmp_path / "b.npz", {"x": np.array([object()])})
