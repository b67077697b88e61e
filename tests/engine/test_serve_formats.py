"""Batches as CSV and Arrow, without HTTP."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.contracts.tasks import Task
from ekiden_engine.custom_predictors import CustomEdgePredictor
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import Target
from ekiden_engine.model_folder import LoadedModel, ModelConfig, TargetEntry
from ekiden_engine.models.base import Predictor
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.serving import ARROW, CSV, answer
from ekiden_engine.serving_batches import ALL_STATUSES, Scores
from ekiden_engine.serving_csv import format_scores, parse_nodes, parse_pairs
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_ids import IdIndex
from ekiden_engine.serving_model import ServedModel
from tests.engine.serving_factories import LIKES, RATED, genres, links, make_served, mood, rank, topic

ODD = ["with,comma", 'with "quote"', "日本", " space "]
USERS = ["u0", "u1", "u2", *ODD]
MOVIES = ["m0", "m1", "m2"]


def make_model(users: list[str] = USERS, movies: list[str] = MOVIES, *more: tuple[Target, Predictor]) -> ServedModel:
    """A model that scores 1 + user index / 10 + movie index / 100; unseen: 0.9 for either, 2.5 for both."""

    def side(count: int, step: float, base: float, unseen: float) -> Side:
        bias = np.append(base + step * np.arange(count), unseen).astype(np.float32)
        return Side(np.zeros((count + 1, 1), np.float32), bias, np.ones(count, np.bool_))

    ends = ("user", "movie")
    dot = DotPredictor(ends, side(len(users), 0.1, 1, 0.9), side(len(movies), 0.01, 0, -0.1), 2.5, 0.0, 5.0)
    target = Target(task=Task.EDGE_REGRESSION, edge=RATED, property="rating", label_min=0, label_max=5)
    entries = tuple(
        TargetEntry(target=one, predictor=predictor.kind, folder=f"targets/{i}", hyperparameters={})
        for i, (one, predictor) in enumerate([(target, dot), *more])
    )
    config = ModelConfig(model="rgcn", targets=entries, mappings={})
    ids = {"user": pa.array(users), "movie": pa.array(movies)}
    return ServedModel(LoadedModel(config, (dot, *(one for _, one in more)), ids, {}, FeatureBook(nodes={})))


MODEL = make_model()
EVERY = make_served()


def csv_lines(body: str | bytes, model: ServedModel = MODEL, attributes: str = "") -> list[str]:
    media, found = answer(model, CSV, body.encode() if isinstance(body, str) else body, attributes)
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
    media, body = answer(MODEL, ARROW, arrow_stream(table))
    found = pa.ipc.open_stream(body).read_all()
    assert media == ARROW
    assert found.schema.types == [pa.float32(), pa.string()]
    assert found.column("status").to_pylist() == ["scored", "invalid", "fallback_source"]
    assert found.column("score").to_pylist() == [pytest.approx(1.12), None, pytest.approx(0.91)]


@pytest.mark.parametrize(
    "body", [b"", b"no arrow", arrow_stream(pa.table({})), arrow_stream(pa.table({"a": [[1]], "b": [[2]]}))]
)
def test_a_body_that_is_no_arrow_stream_of_pairs_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(MODEL, ARROW, body)
    assert caught.value.code == "MALFORMED_ARROW"


@pytest.mark.parametrize(
    ("model", "body", "lines"),
    [
        (make_served(links(LIKES)), "ada,alien\nbob,alien\n", ["2,scored", "0,scored"]),
        (make_served(rank("user", 4)), "cem\nnobody\n\n", ["20,scored", "15,fallback", ",invalid"]),
        (make_served(topic()), "heat\nalien,x\n", ["war,0.8,scored", ",,invalid"]),
        (make_served(genres()), "alien\nsolaris\n", ["SF;Noir,0.9;0.6,scored", ",,scored"]),
        (
            make_served(mood()),
            "ada,heat\n,\nada,alien\nbob,solaris\n",
            ['"so, so",0.6,scored', ",,invalid", "calm,0.6,scored", '"a ""wild"" one",0.6,scored'],
        ),
    ],
    ids=["links", "number of nodes", "class of nodes", "classes of nodes", "class of edges"],
)
def test_csv_of_each_task_gets_a_line_per_line(model: ServedModel, body: str, lines: list[str]) -> None:
    assert csv_lines(body, model) == lines


def test_lines_of_classes_can_be_read_by_any_csv_reader() -> None:
    body = "".join(f"{user},{movie}\n" for user in ("ada", "bob") for movie in ("alien", "heat", "solaris", "nothing"))
    read = list(csv.reader(csv_lines(body, EVERY, "target=user-rated-movie.mood")))
    assert [len(row) for row in read] == [3] * 8
    assert [row[0] for row in read[:3]] == ["calm", "so, so", 'a "wild" one']
    assert {row[2] for row in read} == {"scored", "fallback_target"}


@pytest.mark.parametrize(
    ("attributes", "body", "lines"),
    [
        ("", "ada,heat\n", ["3.01,scored"]),
        ("target=0", "ada,heat\n", ["3.01,scored"]),
        ("target=user-rated-movie.rating", "ada,heat\n", ["3.01,scored"]),
        ("trace=7;target=user-rated-movie.mood;x=y", "ada,heat\n", ['"so, so",0.6,scored']),
        ("target=movie.topic", "heat\n", ["war,0.8,scored"]),
        ("target=movie%2Etopic", "heat\n", ["war,0.8,scored"]),
        ("target=5", "heat\n", ["10,scored"]),
        ("target=user-likes-movie", "ada,alien\n", ["2,scored"]),
        ("target=user-knows-user", "ada,bob\n", ["0,scored"]),
    ],
)
def test_the_header_chooses_the_target_and_without_it_the_first_edge_property_is(
    attributes: str, body: str, lines: list[str]
) -> None:
    assert csv_lines(body, EVERY, attributes) == lines


@pytest.mark.parametrize(
    ("attributes", "code"),
    [("target=movie.taste", "UNKNOWN_TARGET"), ("target=", "UNKNOWN_TARGET"), ("target=6", "AMBIGUOUS_TARGET")],
)
def test_a_header_that_names_no_target_or_several_edge_types_is_refused(attributes: str, code: str) -> None:
    with pytest.raises(BadRequest, match="user-likes-movie") as caught:
        answer(EVERY, CSV, b"ada,alien\n", attributes)
    assert caught.value.code == code


def test_the_header_also_restricts_json() -> None:
    document = b'{"data": {"globalParameters": {}, "edges": [{"headNodeId": "ada", "tailNodeId": "heat"}]}}'
    assert b"3.01" in answer(EVERY, "", document, "target=user-rated-movie.rating")[1]
    with pytest.raises(BadRequest, match="no edge property"):
        answer(EVERY, "", document, "target=movie.topic")


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b"", []),
        (b"a\nb", [b"a", b"b"]),
        (b'"a,b"\r\nc,d\n"e""f"\n"g\n', [b"a,b", None, b'e"f', None]),
        (b"\xef\xbb\xbfa\n\n", [b"a", b""]),
    ],
)
def test_a_line_is_one_id_of_a_node(body: bytes, ids: list[bytes | None]) -> None:
    assert parse_nodes(body).to_pylist() == ids


def read_stream(model: ServedModel, table: pa.Table, attributes: str = "") -> pa.Table:
    return pa.ipc.open_stream(answer(model, ARROW, arrow_stream(table), attributes)[1]).read_all()


def test_arrow_of_pairs_and_of_nodes_goes_to_what_is_predicted_of_them() -> None:
    # GIVEN a model of every task
    pairs = pa.table({"source": ["ada", None], "target": ["heat", "heat"], "node": ["x", "y"]})
    nodes = pa.table({"extra": [1, 2, 3], "node": ["alien", "heat", None]})

    # WHEN pairs come, THEN the edge property answers; when nodes come, the node property
    assert read_stream(EVERY, pairs).to_pydict() == {
        "score": [pytest.approx(3.01), None],
        "status": ["scored", "invalid"],
    }
    assert read_stream(EVERY, nodes).to_pydict() == {
        "value": ["drama", "war", None],
        "score": [pytest.approx(0.9), pytest.approx(0.8), None],
        "status": ["scored", "scored", "invalid"],
    }
    several = read_stream(EVERY, pa.table({"id": ["alien", "solaris"]}), "target=movie.genres")
    assert several.schema.types == [pa.list_(pa.string()), pa.list_(pa.float32()), pa.string()]
    assert several.column("value").to_pylist() == [["SF", "Noir"], []]


def test_a_batch_that_no_target_takes_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"no target takes node ids: this model predicts user-rated-movie\.rating"):
        answer(MODEL, ARROW, arrow_stream(pa.table({"node": ["u0"]})))
    with pytest.raises(BadRequest, match="no target takes pairs"):
        answer(make_served(topic()), ARROW, arrow_stream(pa.table({"source": ["a"], "target": ["b"]})))


def test_many_classes_are_predicted_in_parts() -> None:
    # GIVEN a class per movie, for which any user takes that movie
    count = 500
    classes = tuple(f"class {i}" for i in range(count))
    movies = [f"m{i}" for i in range(count)]
    target = Target(task=Task.EDGE_CLASSIFICATION, edge=RATED, property="kind", classes=classes)
    eye = np.eye(count, dtype=np.float32)
    tables = {"node/user": np.ones((2, count), np.float32), "node/movie": 9 * eye, "relation": eye}
    about = {"ends": ["user", "movie"], "classes": count, "multi_label": False, "low": None, "high": None}
    model = make_model(["a", "b"], movies, (target, CustomEdgePredictor(tables, about)))

    # WHEN more pairs come than fit in one part
    chosen = np.random.default_rng(0).integers(count, size=20_000).tolist()
    found = csv_lines("".join(f"a,m{i}\n" for i in chosen), model, "target=1")

    # THEN each has its own class
    assert [line.partition(",")[0] for line in found] == [classes[i] for i in chosen]


def test_an_unknown_content_type_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match="text/csv") as caught:
        answer(MODEL, "text/html", b"")
    assert caught.value.status == 415


def test_an_index_finds_ids_by_their_bytes_and_says_minus_one_for_others() -> None:
    index = IdIndex(pa.array(["a", "é", "a b"]))
    wanted = pa.array(["é".encode(), b"zzz", b"a", b"\xff", b"a b", b"a"], pa.binary())
    assert index.of(wanted).tolist() == [1, -1, 0, -1, 2, 0]
    assert index.of(pa.array([], pa.binary())).tolist() == []
    assert [index.find(name) for name in ("é", "zzz", None)] == [1, -1, -1]
    assert "a b" in index
    assert len(index) == 3
    assert ALL_STATUSES == ("scored", "fallback_source", "fallback_target", "fallback_both", "invalid", "fallback")
