"""Feature encoders against Neptune ML's rules, and their life as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ekiden_engine.features import encoder_from_json
from ekiden_engine.numbers import BadValue
from tests.engine.feature_factories import column, encode, fit


class TestNumerical:
    """`numerical`."""

    @pytest.mark.parametrize(
        ("norm", "expected"),
        [
            ("none", [[1.0], [3.0], [4.0]]),
            ("min-max", [[0.0], [2 / 3], [1.0]]),
            # Neptune ML divides by the sum; a z-score it is not
            ("standard", [[1 / 8], [3 / 8], [4 / 8]]),
        ],
    )
    def test_norms_follow_neptune_ml(self, norm: str, expected: list[list[float]]) -> None:
        np.testing.assert_allclose(encode("numerical", column("1", "3", "4"), norm=norm), expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("imputer", "filled"), [("mean", 4.0), ("median", 3.0), ("most_frequent", 1.0), ("most-frequent", 1.0)]
    )
    def test_a_missing_number_is_imputed(self, imputer: str, filled: float) -> None:
        encoded = encode("numerical", column("1", "1", None, "5", "9"), norm="none", imputer=imputer)
        assert encoded == [[1.0], [1.0], [filled], [5.0], [9.0]]

    def test_a_missing_number_without_imputer_stops_at_its_row(self) -> None:
        with pytest.raises(BadValue, match="name an imputer") as caught:
            encode("numerical", column("1", "2", None), norm="none")
        assert (caught.value.row, caught.value.code) == (2, "MISSING_VALUE")

    def test_text_is_not_a_number(self) -> None:
        with pytest.raises(BadValue) as caught:
            encode("numerical", column("1", "two", None), norm="none")
        assert (caught.value.row, caught.value.value, caught.value.code) == (1, "two", "NOT_A_NUMBER")

    @pytest.mark.parametrize("norm", ["min-max", "standard", "none"])
    def test_a_constant_or_zero_column_stays_finite(self, norm: str) -> None:
        assert np.isfinite(encode("numerical", column("0", "0"), norm=norm)).all()

    def test_several_numbers_in_a_cell_become_dimensions(self) -> None:
        values = column("0;10", "2;20", None)
        encoded = encode("numerical", values, norm="min-max", imputer="mean", separator=";")
        assert encoded == [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]

    def test_cells_with_differing_counts_of_numbers_are_refused(self) -> None:
        with pytest.raises(BadValue, match="3 numbers where other rows have 2") as caught:
            encode("numerical", column("0;10", "1;2;3"), norm="none", separator=";")
        assert (caught.value.row, caught.value.code) == (1, "UNEVEN_VALUES")

    def test_a_column_without_any_value_is_refused(self) -> None:
        with pytest.raises(BadValue, match="nothing to learn from"):
            encode("numerical", column(None, None), norm="none", imputer="mean")


class TestCategory:
    """`category`."""

    def test_each_value_has_its_column_most_frequent_first(self) -> None:
        encoder = fit("category", column("b", "a", "b", None))
        assert encoder.names == ("x=b", "x=a")
        assert encoder.transform(column("a", "b", None, "new")).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]

    def test_several_values_in_a_cell_are_several_ones(self) -> None:
        values = column("Drama;War", "War", "Drama; War ;", "a\\;b")
        encoder = fit("category", values, separator=";")
        assert encoder.names == ("x=War", "x=Drama", "x=a;b")
        assert encoder.transform(values).tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]]

    def test_a_hundred_values_fit_and_one_more_makes_other(self) -> None:
        hundred = [f"v{i:03}" for i in range(100)]
        assert len(fit("category", column(*hundred)).names) == 100
        encoder = fit("category", column(*hundred, "v100", *hundred[:99]))
        assert encoder.width == 100
        assert encoder.names[-1] == "x=OTHER"
        assert encoder.transform(column("v100", "v099", "unseen", "v000"))[:, -1].tolist() == [1, 1, 1, 0]

    @settings(deadline=None)
    @given(st.lists(st.one_of(st.none(), st.text(min_size=1, max_size=3)), min_size=1, max_size=300))
    def test_every_present_value_has_exactly_one_one(self, values: list[str | None]) -> None:
        """Property: rows of a category are one-hot, zero where missing, at most 100 wide, and survive JSON."""
        if all(value is None for value in values):
            return
        texts = column(*values)
        encoder = fit("category", texts)
        encoded = encoder.transform(texts)
        assert encoded.shape == (len(values), encoder.width)
        assert encoder.width <= 100
        assert encoded.sum(axis=1).tolist() == [0.0 if value is None else 1.0 for value in values]
        assert encoder_from_json(encoder.model_dump_json()) == encoder


class TestBuckets:
    """`bucket_numerical`."""

    def test_values_fall_into_equal_buckets_and_outliers_into_the_end_ones(self) -> None:
        encoded = encode(
            "bucket_numerical", column("-5", "0", "9.9", "10", "39", "40", "99"), range=[0, 40], bucket_cnt=4
        )
        assert np.argmax(encoded, axis=1).tolist() == [0, 0, 0, 1, 3, 3, 3]
        assert np.sum(encoded, axis=1).tolist() == [1] * 7

    def test_a_window_marks_every_bucket_it_overlaps(self) -> None:
        # GIVEN buckets of 10 and a window of 10: 15 covers [10, 20], 18 covers [13, 23], 2 covers [-3, 7]
        encoded = encode(
            "bucket_numerical", column("15", "18", "2", "60"), range=[0, 40], bucket_cnt=4, slide_window_size=10
        )
        assert encoded == [[0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]

    def test_a_number_on_a_bound_belongs_to_the_bucket_that_begins_there(self) -> None:
        # 0.29 / 0.01 is 28.999…, and still the names say [0.29,0.3)
        encoder = fit("bucket_numerical", column("0"), range=[0, 1], bucket_cnt=100)
        for number in range(100):
            (at,) = np.flatnonzero(encoder.transform(column(str(number / 100)))[0])
            assert encoder.names[at].startswith(f"x[{number / 100:g},")

    def test_names_tell_the_bounds(self) -> None:
        assert fit("bucket_numerical", column("1"), range=[0, 1], bucket_cnt=2).names == ("x[0,0.5)", "x[0.5,1)")

    def test_a_missing_value_needs_an_imputer(self) -> None:
        with pytest.raises(BadValue, match="name an imputer"):
            encode("bucket_numerical", column("1", None), range=[0, 4], bucket_cnt=4)
        encoded = encode("bucket_numerical", column("1", None), range=[0, 4], bucket_cnt=4, imputer="mean")
        assert encoded[0] == encoded[1]


class TestDatetime:
    """`datetime`."""

    def test_parts_are_one_hot_and_a_constant_part_is_dropped(self) -> None:
        # GIVEN a Saturday and a Sunday of one year and month, one of them with time and zone
        values = column("2026-11-21", "2026-11-22T23:30:00+01:00", None)
        encoder = fit("datetime", values)
        # THEN year and month say nothing; weekday and hour (in UTC) do
        assert encoder.names == ("x.weekday=6", "x.weekday=7", "x.hour=0", "x.hour=22")
        assert encoder.transform(values).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]

    def test_only_the_parts_asked_for_are_encoded(self) -> None:
        encoder = fit("datetime", column("2025-01-01", "2026-01-01T00:00:00Z"), datetime_parts=["year"])
        assert encoder.names == ("x.year=2025", "x.year=2026")
        assert encoder.transform(column("2024-06-01")).tolist() == [[0, 0]]

    @pytest.mark.parametrize(
        ("imputer", "year"), [("median", 2022), ("most_frequent", 2021), ("most-frequent", 2021), ("mean", 2023)]
    )
    def test_a_missing_date_is_imputed_as_a_moment(self, imputer: str, year: int) -> None:
        dates = column("2021-01-01", "2021-01-01", "2022-06-01", "2023-03-01", "2028-06-01", None)
        encoder = fit("datetime", dates, imputer=imputer, datetime_parts=["year"])
        expected = [float(name == f"x.year={year}") for name in encoder.names]
        assert encoder.transform(dates)[-1].tolist() == expected

    @pytest.mark.parametrize(
        "text",
        [
            "2026-11-21T07:30Z",
            "2026-11-21T16:30+09",
            "2026-11-21 16:30:00+0900",
            "2026-11-21T07:30:00.123456789Z",
            " 2026-11-21T07:30:59 ",
        ],
    )
    def test_a_moment_may_be_written_in_several_ways(self, text: str) -> None:
        encoder = fit("datetime", column("2026-11-21T07:30:00Z", "2026-11-21T08:30:00Z"), datetime_parts=["hour"])
        assert encoder.transform(column(text)).tolist() == [[1, 0]]

    def test_what_is_no_date_is_named_with_its_row(self) -> None:
        with pytest.raises(BadValue, match="ISO 8601") as caught:
            encode("datetime", column("2026-01-01", "yesterday"))
        assert (caught.value.row, caught.value.value, caught.value.code) == (1, "yesterday", "NOT_A_DATE")


class TestNone:
    """`none`."""

    def test_numbers_are_kept_as_they_are(self) -> None:
        assert encode("none", column("5", "-2.5", "1e3")) == [[5.0], [-2.5], [1000.0]]
        assert encode("none", column("5;1", "2;3"), separator=";") == [[5.0, 1.0], [2.0, 3.0]]

    @pytest.mark.parametrize("values", [column("five", "2"), column(None, None), column("1;2", "3")])
    def test_what_is_no_number_has_no_column(self, values: pa.ChunkedArray) -> None:
        encoder = fit("none", values, separator=";")
        assert (encoder.width, encoder.names) == (0, ())
        assert encoder.transform(column("anything", None)).shape == (2, 0)

    def test_a_missing_number_stops(self) -> None:
        with pytest.raises(BadValue, match="missing") as caught:
            encode("none", column("5", None))
        assert (caught.value.row, caught.value.code) == (1, "MISSING_VALUE")


@pytest.mark.parametrize(
    ("kind", "values", "options"),
    [
        ("none", column("1", "2"), {}),
        ("none", column("a", "2"), {}),
        ("datetime", column("2026-01-01", "2025-02-02T10:00:00Z", None), {"imputer": "median"}),
        ("numerical", column("1", None, "2"), {"norm": "min-max", "imputer": "median"}),
        ("numerical", column("1;2", "2;3"), {"norm": "standard", "separator": ";"}),
        ("category", column("a;b", None), {"separator": ";"}),
        ("bucket_numerical", column("1", "7"), {"range": [0, 10], "bucket_cnt": 5, "slide_window_size": 1}),
        ("datetime", column("2026-01-01", "2025-02-02T10:00:00Z"), {}),
    ],
)
def test_an_encoder_restored_from_json_encodes_the_same(
    kind: str, values: pa.ChunkedArray, options: dict[str, Any]
) -> None:
    encoder = fit(kind, values, **options)
    restored = encoder_from_json(encoder.model_dump_json())
    np.testing.assert_array_equal(restored.transform(values), encoder.transform(values))
    assert restored.names == encoder.names


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"kind":"pickle"}',
        '{"kind":"numerical","column":"x","norm":"none","imputer":null,"separator":null,"shift":[0],"scale":[0],"fill":null}',
        '{"kind":"numerical","column":"x","norm":"none","imputer":null,"separator":null,"shift":[0],"scale":[NaN],"fill":null}',
        '{"kind":"category","column":"x","separator":null,"categories":["a","a"],"other":false}',
    ],
)
def test_a_tampered_encoder_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        encoder_from_json(text)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50),
    st.sampled_from(["none", "min-max", "standard"]),
    st.sampled_from(["mean", "median", "most_frequent"]),
)
def test_numbers_encode_to_finite_values_of_the_right_shape(values: list[float], norm: str, imputer: str) -> None:
    """Property: whatever the numbers, the result is finite (min-max: within [0, 1]), the missing row included."""
    texts = column(*[repr(value) for value in values], None)
    encoded = np.asarray(encode("numerical", texts, norm=norm, imputer=imputer))
    assert encoded.shape == (len(values) + 1, 1)
    assert np.isfinite(encoded).all()
    if norm == "min-max":
        assert encoded.min() >= -1e-6
        assert encoded.max() <= 1 + 1e-6
