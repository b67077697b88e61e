"""Turn a folder of MovieLens-like ratings into Gremlin CSV and a ready pipeline spec.

Layouts, told apart by the files present:

* MovieLens 100K: ``u.data``, ``u.user``, ``u.item`` (Latin-1), and the splits ``u1.base``/``u1.test`` and so
  on;
* MovieLens 1M: ``ratings.dat``, ``users.dat``, ``movies.dat``, fields separated by ``::``;
* MovieTweetings: ``ratings.dat``, ``movies.dat``, the same with nothing about users;
* ml-latest and others: ``ratings.csv`` with ``movies.csv``, or with ``movies.dat`` and ``users.dat``.

``ratings.csv`` has the header ``userId,movieId,rating,timestamp`` (ml-latest) or ``u,i,r,t``.
Formats: https://files.grouplens.org/datasets/movielens/ (README of each set).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiden_cli.delimited import BadInput
from ekiden_cli.gremlin import GraphFolder, write_rows, write_spec
from ekiden_cli.movielens_files import (
    Movie,
    Ratings,
    User,
    concat,
    read_movies,
    read_ratings,
    read_split,
    read_users,
)


def convert(src: Path | str, out: Path | str, split: str | None = None) -> GraphFolder:
    """Write ``vertices-user.csv``, ``vertices-movie.csv``, ``edges-rated.csv`` and ``spec.yaml`` to ``out``.

    ``split`` names a published split of MovieLens 100K, e.g. ``u1``: the ratings of ``u1.base`` and
    ``u1.test`` become ``splits/u1-train.csv`` and ``splits/u1-test.csv`` and the spec names them. Without it
    the spec splits the ratings at random, 80/10/10.

    Raises ``BadInput`` (a ``ValueError``) with file and row where the data is wrong.
    """
    source, folder = Path(src), Path(out)
    if not source.is_dir():
        raise BadInput(f"{source} is not a folder")
    if folder.resolve() == source.resolve():
        raise BadInput("--out must be another folder than the data's: the graph's CSV files would mix with it")
    parts = read_split(source, split) if split else None
    ratings = read_ratings(source) if parts is None else concat(parts)
    if not len(ratings.user):
        raise BadInput(f"{source.name}: no ratings")
    users, movies = read_users(source), read_movies(source)
    notes: list[str] = []
    user_keys = _all_keys([u.key for u in users], ratings.user, "users", notes)
    movie_keys = _all_keys([m.key for m in movies], ratings.movie, "movies", notes)

    folder.mkdir(parents=True, exist_ok=True)
    features = _write_users(folder / "vertices-user.csv", user_keys, users)
    features += _write_movies(folder / "vertices-movie.csv", movie_keys, movies)
    count = len(ratings.user)
    columns: dict[str, Any] = {
        "~id": _prefixed("rated-", pc.cast(pa.array(np.arange(1, count + 1)), pa.string())),
        "~from": _prefixed("user-", ratings.user),
        "~to": _prefixed("movie-", ratings.movie),
        "~label": pa.repeat("rated", count),
        "rating:Double": ratings.stars,
        "timestamp:Long": pc.cast(ratings.time, pa.int64(), safe=False),
    }
    write_rows(folder / "edges-rated.csv", columns)
    rule = "split_rate: [0.8, 0.1, 0.1]"
    if parts is not None:
        rule = _write_splits(folder, str(split), parts)
    spec = folder / "spec.yaml"
    write_spec(
        spec,
        name=_name(source),
        title=f"Ratings imported from {source.name}.",
        features=features,
        split=rule,
    )
    counts = {"users": len(user_keys), "movies": len(movie_keys), "ratings": count}
    return GraphFolder(folder, spec, counts, tuple(notes))


def _all_keys(known: list[str], used: pa.Array, what: str, notes: list[str]) -> list[str]:
    """Return the known ids and, after them, those that only ratings name (a vertex without properties)."""
    have = set(known)
    extra = [key for key in pc.unique(used).to_pylist() if key not in have]
    extra.sort(key=lambda key: (len(key), key))
    if known and extra:
        notes.append(f"{len(extra)} {what} have ratings but no record: written without properties")
    return known + extra


def _write_users(path: Path, keys: list[str], users: list[User]) -> list[str]:
    columns: dict[str, Any] = {
        "~id": _prefixed("user-", pa.array(keys)),
        "~label": pa.repeat("user", len(keys)),
    }
    if not users:
        write_rows(path, columns)
        return []
    gap: list[None] = [None] * (len(keys) - len(users))
    columns["age:Int"] = pa.array([u.age for u in users] + gap, pa.int32())
    columns["gender:String"] = pa.array([u.gender for u in users] + gap, pa.string())
    columns["occupation:String"] = pa.array([u.occupation for u in users] + gap, pa.string())
    write_rows(path, columns)
    return [
        "{node: user, property: age, type: numerical, norm: min-max, imputer: median}",
        "{node: user, property: gender, type: category}",
        "{node: user, property: occupation, type: category}",
    ]


def _write_movies(path: Path, keys: list[str], movies: list[Movie]) -> list[str]:
    columns: dict[str, Any] = {
        "~id": _prefixed("movie-", pa.array(keys)),
        "~label": pa.repeat("movie", len(keys)),
    }
    if not movies:
        write_rows(path, columns)
        return []
    gap: list[None] = [None] * (len(keys) - len(movies))
    columns["title:String"] = pa.array([m.title for m in movies] + gap, pa.string())
    columns["year:Int"] = pa.array([m.year for m in movies] + gap, pa.int32())
    columns["genres:String[]"] = pa.array([m.genres for m in movies] + gap, pa.string())
    write_rows(path, columns)
    features = ["{node: movie, property: year, type: numerical, norm: min-max, imputer: median}"]
    if any(m.genres for m in movies):
        features.append('{node: movie, property: genres, type: category, separator: ";"}')
    return features


def _write_splits(folder: Path, split: str, parts: Sequence[Ratings]) -> str:
    (folder / "splits").mkdir(exist_ok=True)
    for kind, part in zip(("train", "test"), parts, strict=True):
        ends = {"~from": _prefixed("user-", part.user), "~to": _prefixed("movie-", part.movie)}
        write_rows(folder / "splits" / f"{split}-{kind}.csv", ends)
    return f"custom_split_filenames: {{train: splits/{split}-train.csv, test: splits/{split}-test.csv}}"


def _prefixed(prefix: str, keys: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(prefix, keys, "")


def _name(source: Path) -> str:
    """Return the folder's name as a spec name: ``[a-z0-9-]{1,32}``."""
    name = re.sub(r"[^a-z0-9]+", "-", source.resolve().name.lower()).strip("-")[:32].strip("-")
    return name or "movielens"
