"""MovieLens and its relatives become Gremlin CSV; whatever is wrong is named by file and row."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from ekiden_cli.delimited import BadInput
from ekiden_cli.graphs import read_spec
from ekiden_cli.movielens import convert


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def write(folder: Path, encoding: str = "utf-8", **files: str) -> Path:
    """Write files whose names have ``_`` for the dot: ``u_data`` is ``u.data``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(text.encode(encoding))
    return folder


def hundred_k(folder: Path) -> Path:
    flags = "|".join("1" if k in (3, 5) else "0" for k in range(19))
    unknown = "|".join("1" if k == 0 else "0" for k in range(19))
    return write(
        folder,
        encoding="latin-1",
        u_data="1\t10\t5\t881250949\n2\t10\t3\t891717742\n1\t11\t4\t878887116\n",
        u_user="1|24|M|technician|85711\n2|53|F|other|94043\n",
        u_item=f"10|Les Misérables (1995)|01-Jan-1995||http://x|{flags}\n11|unknown||||{unknown}\n",
        u1_base="1\t10\t5\t881250949\n2\t10\t3\t891717742\n",
        u1_test="1\t11\t4\t878887116\n",
    )


def test_the_100k_layout_is_read_in_latin_1_with_its_genre_flags(tmp_path: Path) -> None:
    done = convert(hundred_k(tmp_path / "ml-100k"), tmp_path / "graph")

    assert dict(done.counts) == {"users": 2, "movies": 2, "ratings": 3}
    movies = rows(done.folder / "vertices-movie.csv")
    assert movies[0] == {
        "~id": "movie-10", "~label": "movie", "title:String": "Les Misérables (1995)", "year:Int": "1995",
        "genres:String[]": "Animation;Comedy",
    }  # fmt: skip
    assert (movies[1]["year:Int"], movies[1]["genres:String[]"]) == ("", "")
    assert rows(done.folder / "vertices-user.csv")[1] == {
        "~id": "user-2", "~label": "user", "age:Int": "53", "gender:String": "F", "occupation:String": "other",
    }  # fmt: skip
    assert rows(done.folder / "edges-rated.csv")[0] == {
        "~id": "rated-1", "~from": "user-1", "~to": "movie-10", "~label": "rated", "rating:Double": "5",
        "timestamp:Long": "881250949",
    }  # fmt: skip
    spec = read_spec(done.spec).spec
    assert (spec.name, spec.targets[0].split_rate) == ("ml-100k", (0.8, 0.1, 0.1))
    assert [f.property for f in spec.features] == ["age", "gender", "occupation", "year", "genres"]


def test_a_published_split_becomes_files_that_the_spec_names(tmp_path: Path) -> None:
    done = convert(hundred_k(tmp_path / "ml"), tmp_path / "graph", split="u1")

    assert rows(done.folder / "splits" / "u1-test.csv") == [{"~from": "user-1", "~to": "movie-11"}]
    assert len(rows(done.folder / "splits" / "u1-train.csv")) == 2
    assert len(rows(done.folder / "edges-rated.csv")) == 3
    split = read_spec(done.spec).spec.targets[0].custom_split_filenames
    assert split is not None
    assert (split.train, split.valid, split.test) == ("splits/u1-train.csv", None, "splits/u1-test.csv")


def test_the_1m_layout_names_occupations_and_keeps_colons_in_titles(tmp_path: Path) -> None:
    source = write(
        tmp_path / "ml-1m",
        ratings_dat="1::1193::5::978300760\n2::661::3::978302109\n",
        users_dat="1::F::1::10::48067\n2::M::56::16::70072\n",
        movies_dat="661::James :: the Peach (1996)::Animation|Children's\n1193::One Flew (1975)::Drama\n",
    )

    done = convert(source, tmp_path / "graph")

    assert [u["occupation:String"] for u in rows(done.folder / "vertices-user.csv")] == [
        "K-12 student",
        "self-employed",
    ]
    movies = rows(done.folder / "vertices-movie.csv")
    assert movies[0]["title:String"] == "James :: the Peach (1996)"
    assert movies[0]["genres:String[]"] == "Animation;Children's"


def test_movietweetings_has_no_users_file_and_keeps_leading_zeros(tmp_path: Path) -> None:
    source = write(
        tmp_path / "mt",
        ratings_dat="1::0104257::8::1364690142\n2::0104257::7::1364117717\n2::0000009::6::1364117717\n",
        movies_dat='0104257::A Few "Good" Men, Really (1992)::Drama|Mystery\n',
        users_dat="1::139564917\n2::522540374\n",
    )

    done = convert(source, tmp_path / "graph")

    assert done.notes == ("1 movies have ratings but no record: written without properties",)
    movies = rows(done.folder / "vertices-movie.csv")
    assert [m["~id"] for m in movies] == ["movie-0104257", "movie-0000009"]
    assert movies[0]["title:String"] == 'A Few "Good" Men, Really (1992)'
    assert rows(done.folder / "vertices-user.csv") == [
        {"~id": "user-1", "~label": "user"},
        {"~id": "user-2", "~label": "user"},
    ]
    assert [f.property for f in read_spec(done.spec).spec.features] == ["year", "genres"]


def test_ml_latest_csv_has_quoted_titles_half_stars_and_movies_without_genres(tmp_path: Path) -> None:
    source = write(
        tmp_path / "ml-latest",
        ratings_csv="userId,movieId,rating,timestamp\n1,1,4.5,964982703\n1,3,0.5,964981247\n",
        movies_csv=('movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n3,X,(no genres listed)\n'),
    )

    done = convert(source, tmp_path / "graph")

    assert [e["rating:Double"] for e in rows(done.folder / "edges-rated.csv")] == ["4.5", "0.5"]
    movies = rows(done.folder / "vertices-movie.csv")
    assert (movies[0]["title:String"], movies[0]["year:Int"]) == ("American President, The (1995)", "1995")
    assert movies[1]["genres:String[]"] == ""


def test_short_headers_with_dat_files_beside_and_missing_timestamps_are_read(tmp_path: Path) -> None:
    source = write(
        tmp_path / "ml",
        ratings_csv="u,i,r,t\n1,661,5,978824268\n1,661,4,\n",
        movies_dat="661::James (1996)::Drama\n",
        users_dat="1::F::25::10::48067\n",
    )

    done = convert(source, tmp_path / "graph")

    assert [e["timestamp:Long"] for e in rows(done.folder / "edges-rated.csv")] == ["978824268", ""]
    assert rows(done.folder / "vertices-user.csv")[0]["age:Int"] == "25"


BROKEN = [
    ({"u_data": "1\t2\t5\t88\n1\t3\tfive\t88\n"}, r"u\.data, row 2: the rating is 'five', not a number"),
    ({"u_data": "1\t2\t5\t88\n1\t3\t\t88\n"}, r"u\.data, row 2: the rating is empty, not a number"),
    ({"u_data": "1\t2\tnan\t88\n"}, r"u\.data, row 1: the rating is 'nan', not a number"),
    ({"u_data": "1\t2\t5\t88\n1\t3\t4\n"}, r"u\.data, row 2: 3 fields where 4 were expected"),
    ({"u_data": "1\t2\t5\t88\n\t3\t4\t88\n"}, r"u\.data, row 2: the user is empty"),
    ({"u_data": ""}, r"u\.data: the file is empty"),
    ({"ratings_dat": "1::2::5::x\n"}, r"ratings\.dat, row 1: the timestamp is 'x', not a number"),
    ({"ratings_csv": "userId,movie,rating,timestamp\n1,2,3,4\n"}, r"row 1: no column movieId; the header has userId"),
    ({"ratings_csv": "userId,movieId,rating,timestamp\n1,2,3,4\n1,2,bad,4\n"}, r"ratings\.csv, row 3: the rating is"),
    ({"readme_txt": "hello"}, r"found none of u\.data .* the folder holds readme\.txt"),
    (
        {"u_data": "1\t2\t5\t88\n", "u_user": "1|24|M|x|y\n1|25|M|x|y\n"},
        r"u\.user: the id '1' stands there twice \(record 2\)",
    ),
    ({"u_data": "1\t2\t5\t88\n", "u_user": "1|old|M|x|y\n"}, r"u\.user, row 1: the age is 'old', not a number"),
    ({"u_data": "1\t2\t5\t88\n", "u_item": "1|X|Y\n"}, r"u\.item, row 1: 3 fields where 24 were expected"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "said"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_wrong_is_named_by_file_and_row(tmp_path: Path, files: dict[str, str], said: str) -> None:
    source = write(tmp_path / "data", **files)

    with pytest.raises(BadInput, match=said) as caught:
        convert(source, tmp_path / "graph")

    assert len(str(caught.value)) < 400


def test_an_absent_folder_and_the_folder_itself_as_output_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        convert(tmp_path / "absent", tmp_path / "graph")
    source = hundred_k(tmp_path / "ml")
    with pytest.raises(BadInput, match="another folder"):
        convert(source, source)


@pytest.mark.parametrize("split", ["u9", "../u1"])
def test_an_unknown_split_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(BadInput, match="beside the ratings"):
        convert(hundred_k(tmp_path / "ml"), tmp_path / "graph", split=split)


@pytest.mark.parametrize(
    ("name", "split", "counts"),
    [
        ("ml-100k", "u1", {"users": 943, "movies": 1682, "ratings": 100_000}),
        ("ml-1m-60pct", None, {"users": 6040, "movies": 3883, "ratings": 601_186}),
        ("movietweetings-100k", None, {"users": 16_554, "movies": 10_506, "ratings": 100_000}),
    ],
)
def test_published_data_is_imported_in_seconds(
    tmp_path: Path, shared: Path, name: str, split: str | None, counts: dict[str, int]
) -> None:
    began = time.monotonic()
    done = convert(shared / name, tmp_path / "graph", split=split)
    took = time.monotonic() - began

    assert dict(done.counts) == counts
    assert took < 10
    with (done.folder / "edges-rated.csv").open("rb") as edges:
        assert sum(1 for _ in edges) == counts["ratings"] + 1
    assert read_spec(done.spec).folder == done.folder.resolve()
