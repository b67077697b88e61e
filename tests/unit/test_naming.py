"""Names: deterministic, distinct, and within every platform's limits."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ekiden.domain import naming
from ekiden.domain.model import Stage

SAGEMAKER = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
NEPTUNE_ML_LIMIT = 48


@given(run_id=st.text(min_size=1), stage=st.sampled_from(Stage), attempt=st.integers(1, 9999))
def test_a_job_name_fits_sagemaker_and_neptune_ml(run_id: str, stage: Stage, attempt: int) -> None:
    name = naming.job_name(run_id.encode(errors="replace").decode(), stage, attempt)

    assert SAGEMAKER.fullmatch(name)
    assert naming.JOB_NAME.fullmatch(name)
    assert len(name) <= NEPTUNE_ML_LIMIT
    assert name == naming.job_name(run_id.encode(errors="replace").decode(), stage, attempt)


def test_job_names_differ_by_run_stage_and_attempt_within_their_first_eight_characters() -> None:
    names = [
        naming.job_name(f"movielens-20261120-1200{second:02}-aaaaaa", stage, attempt)
        for second in range(60)
        for stage in Stage
        for attempt in (1, 2, 3)
    ]
    assert len({name[:8] for name in names}) == len(names)


def test_the_parts_of_a_name_cannot_be_mistaken_for_one_another() -> None:
    assert naming.job_name("a/export", Stage.EXPORT, 1) != naming.job_name("a", Stage.EXPORT, 1)
    assert naming.job_name("a", Stage.EXPORT, 11) != naming.job_name("a", Stage.EXPORT, 1)


def test_a_job_name_is_the_same_for_ever() -> None:
    """Runs in flight survive a deployment: what another version started must be found under its name."""
    name = naming.job_name("movielens-20261120-120000-mfrggz", Stage.TRAIN, 2)
    assert name == "7b1897ed166bbfab-train-2"


def test_a_run_id_tells_pipeline_and_time_and_stays_short() -> None:
    run_id = naming.new_run_id("m" * 32, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"\xff\x00\xaa\x55")

    assert re.fullmatch(r"m{32}-20260102-030405-[a-z2-7]{6}", run_id)
    assert len(run_id) <= 60


def test_where_things_lie() -> None:
    assert naming.attempt_prefix("r", Stage.TRAIN, 2) == "runs/r/train/2/"
    assert naming.spec_key("r").startswith("runs/r/")
    model = naming.model_prefix("s3://b/runs/r/train/2/", "job")
    assert model == "s3://b/runs/r/train/2/job/output/model/"
    keys = [naming.part_key("s", part) for part in (0, 9, 10, 99_999, 100_000)]
    assert keys == sorted(keys)
    assert keys[0] == "scores/s/results/part-000000.csv"
