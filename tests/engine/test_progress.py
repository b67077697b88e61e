"""Progress of long reads and writes."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import pytest

from ekiden_engine import csv_stream, progress
from ekiden_engine.csv_stream import stream_csv
from ekiden_engine.errors import BadData
from ekiden_engine.progress import RowProgress
from tests.engine.factories import SMALL_GRAPH, export_files


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_what_is_done_how_fast_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN ten seconds for a quarter of the bytes
    clock = Clock()
    shown = RowProgress("reading edges", total=4_000, clock=clock)
    shown.work(1_000)
    clock.now += 4
    shown.rows(10_000)
    assert capsys.readouterr().out == ""
    # WHEN the time for a line has come
    clock.now += 6
    shown.rows(15_000)
    # THEN there is one, and the next waits for its time
    shown.rows(1)
    assert capsys.readouterr().out == "reading edges: 25,000 rows, 25%, 2,500 rows/s, 30 s left\n"


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_tells_its_bytes_and_rows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(csv_stream, "BLOCK_BYTES", 500)
    text = "a,b\n" + "".join(f"{i},x\n" for i in range(1_000))
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    clock = Clock()
    shown = RowProgress("reading", path.stat().st_size, clock)
    rows = sum(table.num_rows for table in stream_csv(path, "t.csv", ["a"], progress=shown))
    assert rows == 1_000
    assert shown.line(clock.now + 1) == "reading: 1,000 rows, 100%, 1,000 rows/s, 0 s left"


def test_a_long_export_tells_of_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    export_files(tmp_path, SMALL_GRAPH)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("reading the graph: ") and " rows/s, " in line for line in lines)
    assert any(line.startswith("writing the export: ") and "100%" in line for line in lines)


def test_reading_ahead_ends_with_the_reader_and_hands_on_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a file of many blocks whose last line is broken
    monkeypatch.setattr(csv_stream, "BLOCK_BYTES", 500)
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{i},x\n" for i in range(1_000)) + "1,2,3\n")
    before = threading.active_count()
    # WHEN reading is given up after the first block
    tables = stream_csv(path, "t.csv", ["a"])
    next(tables)
    assert threading.active_count() == before + 1
    tables.close()  # type: ignore[attr-defined]
    # THEN nothing is left running; who reads on gets the error
    assert threading.active_count() == before
    with pytest.raises(BadData, match=r"t\.csv:1002: 3 values"):
        list(stream_csv(path, "t.csv", ["a"]))
    assert threading.active_count() == before
