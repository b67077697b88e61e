"""Features from the spec through export and process to the files of the processed graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.features import FeatureBook, encode_many
from ekiden_engine.manifest import MANIFEST, check_manifest
from ekiden_engine.process import process_graph
from tests.engine.factories import EDGE, RATED, USERS, export_files, make_spec, process_files

MOVIES = (
    "~id,~label,plot:String,review:String,tags:String[],seen:Bool,scores:Int[]\n"
    "m1,movie,彼は海へ行った,quiet sea and war,Drama;War,true,1;2\n"
    "m2,movie,海で戦った,loud war,Drama,false,3;4\n"
)
GRAPH = {"users.csv": USERS, "movies.csv": MOVIES, "rated.csv": RATED, "vectors/en.vec": "2 2\nsea 1 0\nwar 0 1\n"}
PLOT = {"node": "movie", "property": "plot", "type": "text_tfidf", "language": "ja"}
REVIEW = {"node": "movie", "property": "review", "type": "text_word2vec", "vectors": "vectors/en.vec"}


def features_of(export: Path, label: str) -> list[dict[str, Any]]:
    document = json.loads((export / "training-data-configuration.json").read_text())
    (found,) = [n["features"] for n in document["graph"]["nodes"] if n["node"][1] == label]
    return list(found)


def test_text_becomes_columns_and_its_encoders_travel_with_the_graph(tmp_path: Path) -> None:
    # GIVEN Japanese plots, and reviews with vectors from a file in the graph's folder
    graph = process_files(tmp_path, GRAPH, features=[PLOT, REVIEW])
    movie = graph.node("movie")
    assert movie.feature_names[:3] == ("plot~海", "review[0]", "review[1]")
    np.testing.assert_allclose(movie.features[:, :3], [[1.0, 0.5, 0.5], [1.0, 0.0, 1.0]])
    # THEN the export vouches for its copy of the vectors, and the processed graph for the encoders' files
    assert "vectors/vectors/en.vec" in check_manifest(tmp_path / "export").paths()
    known = check_manifest(tmp_path / "processed").paths()
    book = FeatureBook.load(tmp_path / "processed" / "features.json")
    assert {"features.json", *book.files()} <= known
    assert len(book.files()) == 4
    # AND nodes that a request describes are encoded as those of training were
    first = {"plot": "彼は海へ行った", "review": "quiet sea and war", "tags": ["Drama", "War"], "seen": True}
    second = {"plot": "海で戦った", "review": "loud war", "tags": ["Drama"], "seen": False}
    given: list[dict[str, Any]] = [{**first, "scores": [1, 2]}, {**second, "scores": [3, 4]}]
    np.testing.assert_array_equal(encode_many(book, "movie", given), movie.features)


def test_what_nobody_names_is_inferred_as_neptune_export_does_but_for_text(tmp_path: Path) -> None:
    export = export_files(tmp_path, GRAPH)
    assert features_of(export, "movie") == [
        {"feature": ["tags", "tags", "auto"], "separator": ";"},
        {"feature": ["seen", "seen", "auto"]},
        {"feature": ["scores", "scores", "auto"], "imputer": "median", "separator": ";"},
    ]
    warnings = json.loads((export / "training-data-configuration.json").read_text())["warnings"]
    assert [w.split(" is not used")[0] for w in warnings] == ["movie.plot (String)", "movie.review (String)"]
    # AND type none leaves a property out without a word
    none = [{"node": "movie", "property": name, "type": "none"} for name in ("plot", "review", "tags", "seen")]
    graph = process_files(tmp_path / "again", GRAPH, features=none)
    assert graph.node("movie").feature_names == ("scores[0]", "scores[1]")


@pytest.mark.parametrize(
    ("feature", "code", "message"),
    [
        ({**REVIEW, "vectors": "absent.vec"}, "NO_VECTORS_FILE", 'features[0].vectors names "absent.vec"'),
        ({**PLOT, "min_df": 9}, "NO_TERMS", "movie.plot (features[0] of the spec): no word stands in 9"),
    ],
)
def test_a_text_that_cannot_be_encoded_is_named_with_its_place(
    tmp_path: Path, feature: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(BadData) as caught:
        process_files(tmp_path, GRAPH, features=[feature])
    assert caught.value.code == code
    assert message in caught.value.message


def test_text_of_edges_is_not_encoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN an export by Neptune-Export, which makes auto features of the text of edges
    header, *rows = RATED.splitlines()
    rated = "\n".join([f"{header},why:String", *(f"{row},because" for row in rows)])
    export = export_files(tmp_path, {**GRAPH, "rated.csv": f"{rated}\n"})
    path = export / "training-data-configuration.json"
    document = json.loads(path.read_text())
    document["graph"]["edges"][0]["features"] = [{"feature": ["why", "why", "auto"]}]
    path.write_text(json.dumps(document))
    (export / MANIFEST).unlink()
    graph = process_graph(export, tmp_path / "processed", make_spec())
    assert graph.edge(EDGE).features is None
    assert "why: type auto is left out" in capsys.readouterr().out
