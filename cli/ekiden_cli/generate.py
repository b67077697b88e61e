"""Seeded generator of a MovieLens-shaped rating graph.

The model, in order of generation:

* genres: each movie has one to three of 16 genres; genre *g* has a latent vector; a movie's vector is the
  mean of its genres' vectors plus its own part, so genres tell half of what a movie is;
* users: age, gender and occupation shift a user's taste; the rest of the taste is the user's own;
* exposure: how many movies a user rates is log-normal, which ones is drawn without replacement with
  probability proportional to the movie's (Zipf-like) popularity times ``exp(affinity)``: people watch what
  they like, so *which* movies were rated is information too;
* rating = round(mean + user bias + movie bias + taste + noise), clipped to 1..5.

The noise is set so that a model that knew every latent number would still err by about 0.85 stars (RMSE):
the floor is returned as ``Ratings.expected``, hence a benchmark can say how much of the reachable it reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ekiden_cli import titles
from ekiden_cli.gremlin import GraphFolder, write_rows, write_spec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "Western",
)  # fmt: skip
GENRE_SHARE = np.array([11, 7, 4, 20, 7, 4, 26, 6, 5, 8, 4, 6, 12, 7, 12, 2], dtype=np.float64)
OCCUPATIONS = (
    "artist", "clerk", "doctor", "driver", "engineer", "farmer", "lawyer", "librarian", "nurse",
    "programmer", "retired", "sales", "scientist", "student", "teacher", "writer",
)  # fmt: skip

RANK = 6
MEAN = 3.55
USER_BIAS, MOVIE_BIAS, TASTE, NOISE = 0.42, 0.50, 0.62, 0.90
EXPOSURE = 0.9
_CELLS_PER_CHUNK = 4_000_000
_FIRST_DAY = 1_577_836_800  # 2020-01-01T00:00:00Z
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Ratings:
    """A generated rating graph; ``user``, ``movie``, ``stars``, ``timestamp`` have one row per rating.

    ``expected[k]`` is E[stars | all latent values]: no model can beat its RMSE.
    """

    user: Ints
    movie: Ints
    stars: Ints
    timestamp: Ints
    expected: Floats
    age: Ints
    gender: NDArray[np.str_]
    occupation: Ints
    year: Ints
    genre_flags: NDArray[np.bool_]

    @property
    def floor_rmse(self) -> float:
        """Root mean square error of the best possible prediction."""
        return float(np.sqrt(np.mean((self.stars - self.expected) ** 2)))


def generate(
    out: Path | str, *, users: int = 1000, movies: int = 1200, ratings: int = 60_000, seed: int = 7
) -> GraphFolder:
    """Write the graph and ``spec.yaml`` to ``out``. The same arguments give the same bytes.

    Raises ``ValueError`` if the sizes cannot be met.
    """
    data = sample(users=users, movies=movies, ratings=ratings, seed=seed)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(
        folder / "vertices-user.csv",
        {
            "~id": _ids("user-", users),
            "~label": pa.repeat("user", users),
            "age:Int": data.age,
            "gender:String": data.gender.tolist(),
            "occupation:String": [OCCUPATIONS[k] for k in data.occupation],
        },
    )
    names = titles.make(movies, np.random.default_rng([seed, 3]))
    write_rows(
        folder / "vertices-movie.csv",
        {
            "~id": _ids("movie-", movies),
            "~label": pa.repeat("movie", movies),
            "title:String": [f"{name} ({year})" for name, year in zip(names, data.year, strict=True)],
            "year:Int": data.year,
            "genres:String[]": [";".join(np.array(GENRES)[flags]) for flags in data.genre_flags],
        },
    )
    write_rows(
        folder / "edges-rated.csv",
        {
            "~id": _ids("rated-", ratings),
            "~from": _ids("user-", users).take(pa.array(data.user)),
            "~to": _ids("movie-", movies).take(pa.array(data.movie)),
            "~label": pa.repeat("rated", ratings),
            "rating:Double": data.stars,
            "timestamp:Long": data.timestamp,
        },
    )
    spec = folder / "spec.yaml"
    write_spec(
        spec,
        name="demo",
        title=f"Generated rating graph: {users} users, {movies} movies, {ratings} ratings, seed {seed}.",
        features=[
            "{node: user, property: age, type: numerical, norm: min-max, imputer: median}",
            "{node: user, property: gender, type: category}",
            "{node: user, property: occupation, type: category}",
            "{node: movie, property: year, type: numerical, norm: min-max, imputer: median}",
            '{node: movie, property: genres, type: category, separator: ";"}',
        ],
        split="split_rate: [0.8, 0.1, 0.1]",
    )
    return GraphFolder(folder, spec, {"users": users, "movies": movies, "ratings": ratings})


def sample(*, users: int, movies: int, ratings: int, seed: int) -> Ratings:
    """Draw the graph in memory by the model above. Raises ``ValueError`` on impossible sizes."""
    _check(users, movies, ratings)
    people, films, what = (np.random.default_rng([seed, k]) for k in range(3))

    # Movies.
    flags = _genres(films, movies)
    genre_vectors = films.standard_normal((len(GENRES), RANK))
    from_genres = (flags / np.sqrt(flags.sum(1, keepdims=True))) @ genre_vectors
    movie_vectors = 0.85 * from_genres + 0.5 * films.standard_normal((movies, RANK))
    movie_bias = MOVIE_BIAS * films.standard_normal(movies)
    rank = films.permutation(movies)
    popularity = -0.85 * np.log(rank + 4.0) + 0.35 * movie_bias
    year = 2025 - np.minimum(np.floor(films.exponential(14.0, movies)).astype(np.int64), 95)

    # Users: demographic groups have tastes of their own, so that features help with users who rated little.
    age = np.clip(np.round(people.gamma(7.0, 5.0, users)), 12, 80).astype(np.int64)
    gender = np.where(people.random(users) < 0.45, "F", "M")
    occupation = people.integers(0, len(OCCUPATIONS), users)
    group = people.standard_normal((len(OCCUPATIONS), RANK))
    by_gender = people.standard_normal(RANK)
    by_age = people.standard_normal(RANK)
    user_vectors = (
        0.8 * people.standard_normal((users, RANK))
        + 0.4 * group[occupation]
        + 0.3 * np.where(gender == "F", 1.0, -1.0)[:, None] * by_gender
        + 0.3 * ((age - 35.0) / 15.0)[:, None] * by_age
    )
    user_bias = USER_BIAS * people.standard_normal(users)
    # One scale for all, from the second moments: taste then has the standard deviation TASTE over random
    # pairs.
    second = np.sum((user_vectors.T @ user_vectors) * (movie_vectors.T @ movie_vectors)) / (users * movies)
    movie_vectors *= TASTE / math.sqrt(second)

    degree = _degrees(what, users, movies, ratings)
    user, movie = _expose(what, user_vectors, movie_vectors, popularity, degree)

    level = MEAN + user_bias[user] + movie_bias[movie] + np.einsum("ij,ij->i", user_vectors[user], movie_vectors[movie])
    # Exposure favours what people like: shift the level so that the mean stays where ratings sites have it.
    level += MEAN - level.mean()
    stars = np.clip(np.rint(level + NOISE * what.standard_normal(ratings)), 1, 5).astype(np.int64)

    start = _FIRST_DAY + what.integers(0, 3 * 365 * _DAY, users)
    timestamp = start[user] + np.floor(what.exponential(30.0 * _DAY, ratings)).astype(np.int64)
    return Ratings(
        user=user, movie=movie, stars=stars, timestamp=timestamp, expected=_expected(level),
        age=age, gender=gender, occupation=occupation, year=year, genre_flags=flags,
    )  # fmt: skip


def _check(users: int, movies: int, ratings: int) -> None:
    if users < 1 or movies < 1:
        raise ValueError(f"need at least one user and one movie, got {users} and {movies}")
    if ratings < 1 or ratings > users * movies:
        raise ValueError(
            f"{users} users and {movies} movies have {users * movies} pairs, so there can be 1 to "
            f"{users * movies} ratings, not {ratings}"
        )


def _genres(rng: np.random.Generator, movies: int) -> NDArray[np.bool_]:
    """Return ``(movies, genres)`` flags, one to three a movie (Gumbel top-k: without replacement)."""
    keys = np.log(GENRE_SHARE) + rng.gumbel(size=(movies, len(GENRES)))
    order = np.argsort(-keys, axis=1)
    count = rng.choice([1, 2, 3], size=movies, p=[0.45, 0.38, 0.17])
    flags = np.zeros((movies, len(GENRES)), dtype=np.bool_)
    for k in range(3):
        flags[np.flatnonzero(count > k), order[count > k, k]] = True
    return flags


def _degrees(rng: np.random.Generator, users: int, movies: int, ratings: int) -> Ints:
    """Return ratings per user: log-normal between ``min(8, mean / 2)`` and ``movies``; sum ``ratings``."""
    least = min(8, ratings // users // 2)
    weight = rng.lognormal(0.0, 1.0, users)
    degree = np.full(users, least, dtype=np.int64)
    left = ratings - int(degree.sum())
    cap = max(movies * 6 // 10, math.ceil(ratings / users))
    while left > 0:
        weight = np.where(degree < cap, weight, 0.0)
        share = left * weight / weight.sum()
        extra = np.floor(share).astype(np.int64)
        # The largest remainders take what rounding down left over.
        rest = left - int(extra.sum())
        extra[np.argsort(-(share - extra), kind="stable")[:rest]] += 1
        degree += extra
        over = np.maximum(degree - cap, 0)
        degree -= over
        left = int(over.sum())
    return degree


def _expose(
    rng: np.random.Generator, user_vectors: Floats, movie_vectors: Floats, popularity: Floats, degree: Ints
) -> tuple[Ints, Ints]:
    """Draw ``degree[u]`` distinct movies for each user, weights ``exp(popularity + EXPOSURE * taste)``.

    Users are taken in blocks so that memory stays bounded whatever the size of the graph.
    """
    movies = len(popularity)
    block = max(1, _CELLS_PER_CHUNK // movies)
    picked: list[Ints] = []
    for start in range(0, len(degree), block):
        wanted = degree[start : start + block]
        most = int(wanted.max())
        keys = popularity + EXPOSURE * (user_vectors[start : start + block] @ movie_vectors.T)
        keys += rng.gumbel(size=keys.shape)
        top = np.argpartition(-keys, most - 1, axis=1)[:, :most] if most < movies else np.argsort(-keys, axis=1)
        order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
        ranked = np.take_along_axis(top, order, axis=1)
        picked.append(ranked[np.arange(most) < wanted[:, None]])
    return np.repeat(np.arange(len(degree)), degree), np.concatenate(picked)


def _expected(level: Floats) -> Floats:
    """E[clip(round(level + NOISE * z), 1, 5)] = 1 + sum over k of P(value > k + 1/2)."""
    total = np.ones_like(level)
    for k in (1.5, 2.5, 3.5, 4.5):
        total += 1.0 - _normal_cdf((k - level) / NOISE)
    return total


def _normal_cdf(x: Floats) -> Floats:
    """Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.17; absolute error below 7.5e-8."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) * poly
    return np.where(x >= 0, 1.0 - upper, upper)


def _ids(prefix: str, count: int) -> Any:
    """Return ``prefix1 .. prefix<count>`` as an Arrow string array."""
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(np.arange(1, count + 1)), pa.string()), "")
