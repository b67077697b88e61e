"""Read the files of MovieLens and its relatives into one shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from ekiden_cli.delimited import BadInput, numbers, present, read_columns, read_dict_rows, read_records, shown

_YEAR = re.compile(r"\((\d{4})\)\s*$")
_NO_GENRE = {"(no genres listed)", "unknown", ""}
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
)  # fmt: skip
_OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ratings:
    """One row per rating: ids as text, stars as float64, seconds since 1970 (or null)."""

    user: pa.Array
    movie: pa.Array
    stars: pa.Array
    time: pa.Array


@dataclass(frozen=True, slots=True)
class User:
    """A user as the files tell; ``None`` for what they do not."""

    key: str
    age: int | None
    gender: str | None
    occupation: str | None


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie; ``genres`` are joined by ``;``, the separator of a Gremlin CSV array."""

    key: str
    title: str
    year: int | None
    genres: str


Record = TypeVar("Record", User, Movie)


def read_ratings(source: Path) -> Ratings:
    """Read all ratings of a folder in any of the layouts. Raises ``BadInput``."""
    if (path := source / "u.data").is_file():
        return _ratings_file(path, "\t")
    if (path := source / "ratings.dat").is_file():
        return _ratings_file(path, "::")
    if (path := source / "ratings.csv").is_file():
        with path.open(encoding="utf-8-sig", errors="replace") as text:
            header = text.readline(4096)
        names = ("u", "i", "r", "t") if header.strip().split(",")[:3] == ["u", "i", "r"] else (
            "userId", "movieId", "rating", "timestamp",
        )  # fmt: skip
        columns = read_columns(path, names, delimiter=",", header=True)
        return _checked(path, list(columns.values()), first_row=2)
    held = ", ".join(sorted(p.name for p in source.iterdir())[:8]) or "nothing"
    raise BadInput(
        f"{source.name}: found none of u.data (MovieLens 100K), ratings.dat (1M, MovieTweetings), "
        f"ratings.csv (ml-latest); the folder holds {held[:120]}"
    )


def _ratings_file(path: Path, delimiter: str) -> Ratings:
    columns = read_columns(path, ("user", "movie", "rating", "timestamp"), delimiter=delimiter, header=False)
    return _checked(path, list(columns.values()), first_row=1)


def _checked(path: Path, columns: Sequence[pa.Array], *, first_row: int) -> Ratings:
    user, movie, rating, time = columns
    return Ratings(
        present(path, user, "the user", first_row=first_row),
        present(path, movie, "the movie", first_row=first_row),
        numbers(path, rating, "the rating", first_row=first_row),
        numbers(path, time, "the timestamp", first_row=first_row, empty_ok=True),
    )


def read_split(source: Path, split: str) -> tuple[Ratings, Ratings]:
    """Read training and test ratings of a published split. Raises ``BadInput``."""
    if not re.fullmatch(r"[a-z0-9]{1,16}", split) or not has_split(source, split):
        raise BadInput(f"{source.name}: no {shown(split + '.base')} and {shown(split + '.test')} beside the ratings")
    return _ratings_file(source / f"{split}.base", "\t"), _ratings_file(source / f"{split}.test", "\t")


def concat(parts: Sequence[Ratings]) -> Ratings:
    """Put ratings one after the other."""

    def joined(name: str) -> pa.Array:
        return pa.concat_arrays([getattr(part, name) for part in parts])

    return Ratings(joined("user"), joined("movie"), joined("stars"), joined("time"))


def read_users(source: Path) -> list[User]:
    """Read what a folder tells of users; nothing if it has no such file. Raises ``BadInput``."""
    if (path := source / "u.user").is_file():
        rows = read_records(path, 5, delimiter="|")
        return _unique(path, [User(k, _age(path, n, a), g, o) for n, (k, a, g, o, _) in enumerate(rows, 1)])
    if (path := source / "users.dat").is_file():
        rows = _user_rows(path)
        return _unique(path, [User(k, _age(path, n, a), g, _occupation(o)) for n, (k, g, a, o) in enumerate(rows, 1)])
    return []


def _user_rows(path: Path) -> list[list[str]]:
    """Read ``users.dat``: five fields in MovieLens 1M; two ids, of no use, in MovieTweetings."""
    with path.open("rb") as source:
        first = source.readline(4096)
    if first.count(b"::") == 1:
        return []
    return [row[:4] for row in read_records(path, 5, delimiter="::")]


def _age(path: Path, row: int, text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise BadInput(f"{path.name}, row {row}: the age is {shown(text)}, not a number of years")
    return int(text)


def _occupation(code: str) -> str:
    return _OCCUPATIONS_1M[int(code)] if code.isdecimal() and int(code) < len(_OCCUPATIONS_1M) else code


def read_movies(source: Path) -> list[Movie]:
    """Read what a folder tells of movies; nothing if it has no such file. Raises ``BadInput``."""
    if (path := source / "u.item").is_file():
        movies = []
        for key, title, date, _, _, *flags in read_records(path, 24, delimiter="|"):
            genres = [name for name, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
            year = int(date[-4:]) if date[-4:].isdecimal() else None
            movies.append(_movie(key, title, genres, year))
        return _unique(path, movies)
    if (path := source / "movies.csv").is_file():
        rows = read_dict_rows(path, ("movieId", "title", "genres"))
        return _unique(path, [_movie(key, title, genres.split("|")) for key, title, genres in rows])
    if (path := source / "movies.dat").is_file():
        rows = read_records(path, 3, delimiter="::")
        return _unique(path, [_movie(key, title, genres.split("|")) for key, title, genres in rows])
    return []


def _movie(key: str, title: str, genres: Sequence[str], year: int | None = None) -> Movie:
    found = _YEAR.search(title)
    # ';' separates values in a Gremlin CSV array.
    kept = ";".join(g.replace(";", ",") for g in genres if g not in _NO_GENRE)
    return Movie(key, title, int(found[1]) if found else year, kept)


def _unique(path: Path, records: list[Record]) -> list[Record]:
    seen: set[str] = set()
    for row, record in enumerate(records, 1):
        if record.key in seen:
            raise BadInput(f"{path.name}: the id {shown(record.key)} stands there twice (record {row})")
        seen.add(record.key)
    return records


def has_split(src: Path | str, split: str) -> bool:
    """Tell whether ``src`` holds both files of the published split."""
    return all((Path(src) / f"{split}.{part}").is_file() for part in ("base", "test"))
