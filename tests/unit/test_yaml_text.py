"""YAML as data and nothing more: bounded in size, depth and time."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from ekiden.contracts.base import DocumentError
from ekiden.contracts.yaml_text import MAX_BYTES, MAX_DEPTH, load_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_plain_data_is_read() -> None:
    assert load_yaml("a: [1, 2.5, yes, text, null]\nb: {c: d}\n'1': x") == {
        "a": [1, 2.5, True, "text", None],
        "b": {"c": "d"},
        "1": "x",
    }
    assert load_yaml('{"json": [1, "too"]}') == {"json": [1, "too"]}
    assert load_yaml("") is None


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a: &x 1\nb: 2", "anchors", "line 1"),
        ("a: 1\nb: *x", "aliases", "line 2"),
        (BOMB, "anchors", "line 1"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "'c' stands twice", "line 4, column 3"),
        ("a: {b: 1, b: 2}", "'b' stands twice", "line 1"),
        ("<<: {a: 1}\nb: 2", "merge keys", "line 1"),
        ("a: !!python/object/apply:os.system ['true']", "tags", "line 1"),
        ("a: !custom x", "tags", "line 1"),
        ("a: !!binary aGk=", "tags", "line 1"),
        ("a: !!set {b, c}", "tags", "line 1"),
        ("a: ! x", "tags", "line 1"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than", "line 1"),
        ("[" * 100_000, "nested more than", "line 1"),
        ("a: " + "1" * 65, "a number has at most", "line 1"),
        ("a: 0x" + "f" * 60_000, "a number has at most", "line 1"),
        ("a: 1" + ":59" * 60_000, "a number has at most", "line 1"),
        ("a: [1, 2", "expected", "line 1"),
        ("a: b: c", "not allowed here", "line 1"),
        ("a: 1\n---\nb: 2", "but found another document", "line 2"),
        ("? [a, b]\n: c", "unhashable", "line 1"),
        ("a: 2001-99-99", "is not YAML", ""),
        ("a: \x00", "is not YAML", ""),
        ("a: " + "x" * MAX_BYTES, "larger than 256 KiB", ""),
        ("\ud800", "is not YAML", ""),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_everything_else_is_refused_with_its_place(text: str, message: str, place: str) -> None:
    with pytest.raises(DocumentError) as error:
        load_yaml(text)
    (fault,) = error.value.faults
    assert message in fault.message
    assert fault.path.startswith(place)
    assert len(fault.message) < 300


@pytest.mark.parametrize("text", [BOMB, "a: 1" + ":59" * 80_000, "{" * 80_000, "a: 0x" + "f" * 80_000], ids=range(4))
def test_a_bomb_costs_next_to_no_time(text: str) -> None:
    started = time.process_time()
    with pytest.raises(DocumentError):
        load_yaml(text)
    assert time.process_time() - started < 1, "a tenth of a second is usual"


def test_an_alias_bomb_costs_next_to_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(DocumentError):
        load_yaml(BOMB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024 * 1024


def test_depth_up_to_the_limit_is_read() -> None:
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
