"""What `/invocations` understands and answers, without HTTP."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden_engine.model_folder import LoadedModel, ModelConfig
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.serving import ALL_STATUSES, IdIndex, PairScorer, Scores
from ekiden_engine.serving_formats import (
    ARROW,
    CSV,
    JSON,
    BadRequest,
    answer,
    format_scores,
    parse_pairs,
)

ODD = ["with,comma", 'with "quote"', "日本", " space "]
USERS = ["u0", "u1", "u2", *ODD]
MOVIES = ["m0", "m1", "m2"]


def make_scorer(users: list[str] = USERS, movies: list[str] = MOVIES) -> PairScorer:
    """A model that scores 1 + user index / 10 + movie index / 100; unseen: 0.9 for either, 2.5 for both."""

    def side(count: int, step: float, base: float, unseen: float) -> Side:
        bias = np.append(base + step * np.arange(count), unseen).astype(np.float32)
        return Side(np.zeros((count + 1, 1), np.float32), bias, np.ones(count, np.bool_))

    predictor = DotPredictor(side(len(users), 0.1, 1, 0.9), side(len(movies), 0.01, 0, -0.1), 2.5, 0.0, 5.0)
    config = ModelConfig(
        model="rgcn",
        predictor="dot",
        edge=("user", "rated", "movie"),
        property="rating",
        mappings={},
        hyperparameters={},
    )
    return PairScorer(LoadedModel(config, predictor, pa.array(users), pa.array(movies)))


SCORER = make_scorer()


def csv_lines(body: str | bytes) -> list[str]:
    media, found = answer(SCORER, CSV, body.encode() if isinstance(body, str) else body)
    assert media == CSV
    return found.decode().splitlines()


def test_each_line_of_pairs_gets_a_line_with_score_and_status_in_the_same_order() -> None:
    assert csv_lines("u1,m2\nu0,m0\nu2,m1\n") == ["1.12,scored", "1,scored", "1.21,scored"]


def test_unseen_nodes_get_a_marked_fallback() -> None:
    found = csv_lines("new,m1\nu1,new\nnew,new\n")
    assert found == ["0.91,fallback_source", "1,fallback_target", "2.5,fallback_both"]


@pytest.mark.parametrize("line", ["", "u1", "u1,m1,extra", ",m1", "u1,", ",", '"u1,m1', '"u1"x,m1', '"",m1', '"u1,m1"'])
def test_a_line_that_is_no_pair_is_invalid_and_costs_the_others_nothing(line: str) -> None:
    assert csv_lines(f"u0,m0\n{line}\nu1,m1\n") == ["1,scored", ",invalid", "1.11,scored"]


def test_quotes_hide_commas_and_quotes_as_rfc_4180_has_it() -> None:
    body = io.StringIO()
    csv.writer(body).writerows([[user, "m0"] for user in ODD])
    assert csv_lines(body.getvalue()) == [f"{1 + 0.1 * i:.6g},scored" for i in range(3, 3 + len(ODD))]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"u0,m0", 1),
        (b"u0,m0\r\nu1,m1\r\n", 2),
        (b"\xef\xbb\xbfu0,m0\n", 1),
        (b"u0,m0\n\n", 2),
        (b"\xff\xfe,m0\nu0,m0\n", 2),
    ],
)
def test_line_ends_marks_and_bytes_that_are_no_text_do_not_shift_the_answer(body: bytes, lines: int) -> None:
    found = csv_lines(body)
    assert len(found) == lines
    assert found[-1:] in ([], ["1,scored"], ["1.11,scored"], [",invalid"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet='um012,"\r ', max_size=9), max_size=12))
def test_any_lines_give_exactly_one_answer_each_and_agree_with_a_line_by_line_reader(lines: list[str]) -> None:
    lines = [line.strip("\r") for line in lines]
    body = "".join(line + "\n" for line in lines).encode()
    source, dest = (column.to_pylist() for column in parse_pairs(body))
    assert len(source) == len(dest) == len(lines)
    for line, s, d in zip(lines, source, dest, strict=True):
        try:
            cells = next(csv.reader([line], strict=True), [])
        except csv.Error:
            cells = []
        if "\r" in line and '"' not in line:
            cells = line.split(",")
        wanted = [cell.encode() for cell in cells] if len(cells) == 2 else [None, None]
        assert [s, d] == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=20))
def test_scores_are_printed_with_six_significant_digits(values: list[float]) -> None:
    scores = Scores(np.array(values, np.float32), np.zeros(len(values), np.uint8))
    printed = [line.partition(",")[0] for line in format_scores(scores).decode().splitlines()]
    for value, text in zip(values, printed, strict=True):
        assert math.isclose(float(text), float(f"{value:.6g}"), rel_tol=1e-12, abs_tol=1e-300)


def test_large_batches_are_scored_as_single_pairs_are() -> None:
    rng = np.random.default_rng(0)
    pairs = [(f"u{a}", f"m{b}") for a, b in zip(rng.integers(0, 4, 20_000), rng.integers(0, 4, 20_000), strict=True)]
    found = csv_lines("\n".join(",".join(pair) for pair in pairs))
    alone = {pair: csv_lines(",".join(pair))[0] for pair in set(pairs)}
    assert found == [alone[pair] for pair in pairs]


def payload(edges: list[Any], **parameters: Any) -> bytes:
    given = {"topk": 1, "edgeType": "rated", "property": "rating", **parameters}
    return json.dumps({"version": "v1", "data": {"globalParameters": given, "edges": edges}}).encode()


def test_the_neptune_payload_is_answered_in_neptunes_shape_with_a_status() -> None:
    edges = [
        {"headNodeId": "u1", "tailNodeId": "m2"},
        {"source": "u0", "target": "m0"},
        {"headNodeId": "x", "tailNodeId": "m1"},
    ]
    media, body = answer(SCORER, "application/json; charset=utf-8", payload(edges))
    assert media == JSON
    assert json.loads(body) == {
        "output": {
            "edges": [
                {"mlResults": [{"inferredValue": 1.12, "status": "scored"}]},
                {"mlResults": [{"inferredValue": 1.0, "status": "scored"}]},
                {"mlResults": [{"inferredValue": pytest.approx(0.91), "status": "fallback"}]},
            ]
        }
    }


def test_no_edges_are_no_error_and_the_edge_type_may_be_left_out_or_written_in_full() -> None:
    assert json.loads(answer(SCORER, JSON, payload([]))[1]) == {"output": {"edges": []}}
    body = payload([{"source": "u1", "target": "m1"}], edgeType=["user", "rated", "movie"], exclude_flag="mask")
    assert b"1.11" in answer(SCORER, "", body)[1]


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"{", "MALFORMED_JSON", "not JSON"),
        (b"\xff", "MALFORMED_JSON", "not JSON"),
        (b"[" * 100_000, "MALFORMED_JSON", "not JSON"),
        (b"[]", "INVALID_PAYLOAD", "data"),
        (b'{"data": 3}', "INVALID_PAYLOAD", "data"),
        (b'{"version": "v2", "data": {}}', "INVALID_PAYLOAD", '"v2" is not v1'),
        (b'{"mode": "predict_tail", "data": {}}', "UNSUPPORTED_MODE", '"predict_tail" is not served'),
        (b'{"data": {"edges": []}}', "INVALID_PAYLOAD", "data.globalParameters"),
        (payload([], property="year"), "UNKNOWN_PROPERTY", '"year" is not what this model predicts, which is "rating"'),
        (payload([], edgeType="likes"), "UNKNOWN_EDGE_TYPE", '"likes" is not what this model predicts'),
        (payload([], edgeType={"a": 1}), "UNKNOWN_EDGE_TYPE", "edgeType"),
        (payload([{"headNodeId": "u1"}]), "INVALID_PAYLOAD", "data.edges[0].tailNodeId"),
        (payload([{"source": "u1", "target": 7}]), "INVALID_PAYLOAD", "data.edges[0].target"),
        (payload(["u1"]), "INVALID_PAYLOAD", "data.edges[0].headNodeId"),
        (payload([{}] * 10_001), "INVALID_PAYLOAD", "at most 10,000"),
        (payload([], property="p" * 5000), "UNKNOWN_PROPERTY", "property"),
    ],
)  # fmt: skip
def test_a_payload_that_cannot_be_answered_is_refused_with_code_and_place(body: bytes, code: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(SCORER, JSON, body)
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert says in caught.value.message
    assert len(caught.value.message) < 400


def arrow_stream(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(out.getvalue())


@pytest.mark.parametrize("names", [("source", "target"), ("a", "b")])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_an_arrow_stream_of_pairs_gets_one_of_scores(names: tuple[str, str], kind: pa.DataType) -> None:
    columns = [["u1", None, "x"], ["m2", "m0", "m1"]]
    table = pa.table({name: pa.array(column).cast(kind) for name, column in zip(names, columns, strict=True)})
    media, body = answer(SCORER, ARROW, arrow_stream(table))
    found = pa.ipc.open_stream(body).read_all()
    assert media == ARROW
    assert found.schema.types == [pa.float32(), pa.string()]
    assert found.column("status").to_pylist() == ["scored", "invalid", "fallback_source"]
    assert found.column("score").to_pylist() == [pytest.approx(1.12), None, pytest.approx(0.91)]


@pytest.mark.parametrize(
    "body", [b"", b"no arrow", arrow_stream(pa.table({"a": ["x"]})), arrow_stream(pa.table({"a": [[1]], "b": [[2]]}))]
)
def test_a_body_that_is_no_arrow_stream_of_pairs_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(SCORER, ARROW, body)
    assert caught.value.code == "MALFORMED_ARROW"


def test_an_unknown_content_type_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match="text/csv") as caught:
        answer(SCORER, "text/html", b"")
    assert caught.value.status == 415


def test_an_index_finds_ids_by_their_bytes_and_says_minus_one_for_others() -> None:
    index = IdIndex(pa.array(["a", "é", "a b"]))
    wanted = pa.array(["é".encode(), b"zzz", b"a", b"\xff", b"a b", b"a"], pa.binary())
    assert index.of(wanted).tolist() == [1, -1, 0, -1, 2, 0]
    assert index.of(pa.array([], pa.binary())).tolist() == []
    assert len(ALL_STATUSES) == 5
