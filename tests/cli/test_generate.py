"""The generated graph has the statistical shape of real ratings, and is reproducible."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ekiden_cli.generate import GENRES, Ratings, generate, sample

Floats = NDArray[np.float64]
USERS, MOVIES, RATINGS = 1000, 1200, 60_000


@pytest.fixture(scope="module")
def drawn() -> Ratings:
    return sample(users=USERS, movies=MOVIES, ratings=RATINGS, seed=7)


def biases(data: Ratings, train: NDArray[np.bool_]) -> Floats:
    """Predict by mean, user bias and movie bias, fitted to ``train`` by alternating shrunken means."""
    stars, user, movie = data.stars[train].astype(float), data.user[train], data.movie[train]
    mean, by_user, by_movie = stars.mean(), np.zeros(USERS), np.zeros(MOVIES)
    for _ in range(10):
        left = stars - mean - by_movie[movie]
        by_user = np.bincount(user, left, USERS) / (np.bincount(user, minlength=USERS) + 5)
        left = stars - mean - by_user[user]
        by_movie = np.bincount(movie, left, MOVIES) / (np.bincount(movie, minlength=MOVIES) + 5)
    found: Floats = mean + by_user[data.user] + by_movie[data.movie]
    return found


def rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def share_of_top_tenth(counts: NDArray[np.int64]) -> float:
    ranked = np.sort(counts)[::-1]
    return float(ranked[: len(ranked) // 10].sum() / ranked.sum())


def test_activity_is_long_tailed_on_both_sides(drawn: Ratings) -> None:
    by_user = np.bincount(drawn.user, minlength=USERS)
    by_movie = np.bincount(drawn.movie, minlength=MOVIES)

    assert share_of_top_tenth(by_user) > 0.3
    assert share_of_top_tenth(by_movie) > 0.3
    assert by_user.max() > 8 * np.median(by_user)
    assert by_movie.max() > 8 * np.median(by_movie)
    assert by_user.min() >= 5


def test_each_user_rates_a_movie_at_most_once_and_the_number_of_ratings_is_exact(drawn: Ratings) -> None:
    pairs = drawn.user * MOVIES + drawn.movie

    assert len(np.unique(pairs)) == len(pairs) == RATINGS


def test_stars_run_from_one_to_five_and_lean_to_the_upper_middle(drawn: Ratings) -> None:
    assert set(np.unique(drawn.stars)) == {1, 2, 3, 4, 5}
    assert 3.2 < drawn.stars.mean() < 3.8
    assert 1.0 < drawn.stars.std() < 1.25


def test_biases_explain_part_taste_explains_more_and_noise_the_rest(drawn: Ratings) -> None:
    test = np.random.default_rng(0).random(RATINGS) < 0.1
    stars = drawn.stars.astype(float)

    by_mean = rmse(stars[test] - stars[~test].mean())
    by_bias = rmse((stars - biases(drawn, ~test))[test])
    floor = rmse((stars - drawn.expected)[test])

    assert by_bias < 0.9 * by_mean
    assert floor < 0.9 * by_bias
    assert 0.80 < drawn.floor_rmse < 0.90


def test_a_users_taste_for_a_genre_shows_in_one_half_of_the_ratings_as_in_the_other(drawn: Ratings) -> None:
    half = np.random.default_rng(1).random(RATINGS) < 0.5
    residual = drawn.stars - biases(drawn, np.ones(RATINGS, dtype=np.bool_))

    def by_genre(rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        total, count = np.zeros((USERS, len(GENRES))), np.zeros((USERS, len(GENRES)))
        flags = drawn.genre_flags[drawn.movie[rows]].astype(float)
        np.add.at(total, drawn.user[rows], residual[rows][:, None] * flags)
        np.add.at(count, drawn.user[rows], flags)
        return total / np.maximum(count, 1), count

    (left, some), (right, others) = by_genre(half), by_genre(~half)
    enough = (some >= 4) & (others >= 4)

    assert enough.sum() > 1000
    assert np.corrcoef(left[enough], right[enough])[0, 1] > 0.2


def test_age_gender_and_occupation_say_something_of_taste(drawn: Ratings) -> None:
    residual = drawn.stars - biases(drawn, np.ones(RATINGS, dtype=np.bool_))
    flags = drawn.genre_flags[drawn.movie].astype(float)

    def spread(group: NDArray[np.int64]) -> float:
        """Variance of the mean residual over groups and genres."""
        key = group[drawn.user]
        means = [np.average(residual[key == g][:, None] * flags[key == g], axis=0) for g in np.unique(group)]
        return float(np.var(np.array(means), axis=0).sum())

    shuffled = np.random.default_rng(2).permutation(drawn.occupation)

    assert spread(drawn.occupation) > 2 * spread(shuffled)


def test_people_rate_what_they_like_rather_than_anything(drawn: Ratings) -> None:
    rng = np.random.default_rng(3)
    seen = np.zeros((USERS, len(GENRES)))
    np.add.at(seen, drawn.user, drawn.genre_flags[drawn.movie].astype(float))
    share = seen / seen.sum(1, keepdims=True)
    anyone = drawn.user[rng.permutation(RATINGS)]
    mixed = np.zeros_like(seen)
    np.add.at(mixed, anyone, drawn.genre_flags[drawn.movie].astype(float))

    assert share.var(0).sum() > 1.2 * (mixed / mixed.sum(1, keepdims=True)).var(0).sum()


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    sizes = {"users": 40, "movies": 50, "ratings": 600}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, **sizes, seed=seed)

    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["edges-rated.csv", "spec.yaml", "vertices-movie.csv", "vertices-user.csv"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    edges = "edges-rated.csv"
    assert (tmp_path / "a" / edges).read_bytes() != (tmp_path / "c" / edges).read_bytes()


def test_the_files_are_gremlin_csv_with_every_edge_between_known_vertices(tmp_path: Path) -> None:
    generate(tmp_path, users=30, movies=40, ratings=300, seed=3)

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open(newline="", encoding="utf-8") as text:
            return list(csv.DictReader(text))

    users, movies, edges = rows("vertices-user.csv"), rows("vertices-movie.csv"), rows("edges-rated.csv")
    assert list(users[0]) == ["~id", "~label", "age:Int", "gender:String", "occupation:String"]
    assert list(movies[0]) == ["~id", "~label", "title:String", "year:Int", "genres:String[]"]
    assert list(edges[0]) == ["~id", "~from", "~to", "~label", "rating:Double", "timestamp:Long"]
    assert {e["~from"] for e in edges} <= {u["~id"] for u in users}
    assert {e["~to"] for e in edges} <= {m["~id"] for m in movies}
    assert len({e["~id"] for e in edges}) == len(edges) == 300
    assert len({m["title:String"] for m in movies}) == 40
    assert any(";" in m["genres:String[]"] for m in movies)
    assert all(m["genres:String[]"] for m in movies)


@pytest.mark.parametrize(("users", "movies", "ratings"), [(3, 4, 12), (1, 1, 1), (5, 1, 3), (2, 3000, 2500)])
def test_extreme_shapes_are_met_exactly(users: int, movies: int, ratings: int) -> None:
    data = sample(users=users, movies=movies, ratings=ratings, seed=0)

    assert len(np.unique(data.user * movies + data.movie)) == ratings


def test_more_ratings_than_pairs_are_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match="10 pairs, so there can be 1 to 10 ratings, not 11"):
        sample(users=2, movies=5, ratings=11, seed=0)
