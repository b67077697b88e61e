"""Pairs go up as canonical CSV and come back, in order, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden_cli.delimited import BadInput
from ekiden_cli.errors import CliError
from ekiden_cli.gremlin import join_rows, write_rows
from ekiden_cli.pairs import ResultWriter, canonical, is_parquet, merge
from ekiden_cli.target import Target
from tests.cli.conftest import BUCKET, KEYS

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_any_text_reads_back_from_the_rows_as_it_was(rows: list[tuple[str, str]]) -> None:
    columns = [pa.array([row[k] for row in rows], pa.string()) for k in range(2)]

    text = bytes(join_rows(columns)).decode()

    assert [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))] == rows


def test_numbers_and_nulls_have_their_plain_form(tmp_path: Path) -> None:
    columns = {"a:Int": pa.array([1, None]), "b:Double": pa.array([4.0, 0.5]), "c": pa.array([None, "x"])}

    assert write_rows(tmp_path / "rows.csv", columns) == 2
    assert (tmp_path / "rows.csv").read_text() == "a:Int,b:Double,c\n1,4,\n,0.5,x\n"


def test_a_csv_keeps_order_quotes_and_empty_ids(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text('note,target,source\nx,m1,u1\ny,"m,2",u2\nz,,u3\n')

    count = canonical(pairs, tmp_path / "out.csv")

    assert count == 3
    assert (tmp_path / "out.csv").read_text() == 'source,target\nu1,m1\nu2,"m,2"\nu3,\n'


def test_parquet_with_other_names_and_number_ids_becomes_text(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user": [7, 8], "movie": ["a", None]}), pairs)

    assert canonical(pairs, tmp_path / "out.csv", source="user", target="movie") == 2
    assert (tmp_path / "out.csv").read_text() == "source,target\n7,a\n8,\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user,movie\n1,2\n", r"pairs\.csv has no column source and target; it has user, movie\. Name them with"),
        ("source,target\n", "holds no pairs"),
        ("", "is empty: its first line has to name the columns"),
        ("source,target\na,b\nc\n", r"pairs\.csv, row 3: 1 fields where the header has 2"),
        ('source,target\na,b\n"c\nd",e\n', r"pairs\.csv, row 3: column source holds a line break"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path: Path, text: str, said: str) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(text)

    with pytest.raises(BadInput, match=said):
        canonical(pairs, tmp_path / "out.csv")


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"no parquet")

    with pytest.raises(BadInput, match=r"pairs\.parquet: "):
        canonical(tmp_path / "pairs.parquet", tmp_path / "out.csv")


def test_the_ending_chooses_the_format_and_others_are_refused() -> None:
    assert is_parquet(Path("a.PARQUET"))
    assert not is_parquet(Path("a.csv"))
    with pytest.raises(CliError, match=r"ends neither in \.csv nor in \.parquet"):
        is_parquet(Path("a.xlsx"))


def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path: Path) -> None:
    count = 400_000
    numbers = pa.array(range(count)).cast(pa.string())
    write_rows(tmp_path / "pairs.csv", {"source": numbers, "target": numbers})
    del numbers
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    tracemalloc.start()

    assert canonical(tmp_path / "pairs.csv", tmp_path / "out.csv") == count

    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert python_peak < 5_000_000
    assert pa.total_allocated_bytes() <= before + 1_000_000
    assert (tmp_path / "out.csv").stat().st_size == (tmp_path / "pairs.csv").stat().st_size


@pytest.mark.enable_socket
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_parts_are_merged_in_order(tmp_path: Path, s3: Any, s3_url: str, ending: str) -> None:
    target, prefix = a_target(s3_url), f"scores/merge-{ending}/results/"
    for number in (2, 0, 1, 10):
        body = f'source,target,score,status\r\n"u,{number}",m,{number}.5,scored\r\nx{number},m,,invalid\r\n'
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}part-{number:06}.csv", Body=body.encode())
    out = tmp_path / "deep" / f"scores.{ending}"

    assert merge(target, f"s3://{BUCKET}/{prefix}", out, expected=8) == 8

    if ending == "csv":
        rows = list(csv.reader(io.StringIO(out.read_text())))
        assert rows[0] == ["source", "target", "score", "status"]
        assert [row[0] for row in rows[1::2]] == ["u,0", "u,1", "u,2", "u,10"]
        assert rows[2] == ["x0", "m", "", "invalid"]
    else:
        table = pq.read_table(out)
        assert str(table.schema.field("score").type) == "float"
        assert table.column("score").to_pylist() == [0.5, None, 1.5, None, 2.5, None, 10.5, None]


@pytest.mark.enable_socket
def test_missing_rows_leave_no_file_behind(tmp_path: Path, s3: Any, s3_url: str) -> None:
    key = "scores/short/results/part-000000.csv"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"source,target,score,status\nu,m,1,scored\n")

    with pytest.raises(CliError, match="hold 1 rows, the request had 2 pairs"):
        merge(a_target(s3_url), f"s3://{BUCKET}/scores/short/results/", tmp_path / "out.csv", expected=2)

    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), ResultWriter(tmp_path / "out.parquet"):
        raise RuntimeError("half way")

    assert list(tmp_path.iterdir()) == []


def a_target(url: str) -> Target:
    return Target("local", "http://x", "us-east-1", BUCKET, endpoint_url=url, **KEYS)
