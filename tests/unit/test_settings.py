"""A misconfigured function says which variables it lacks; a container takes every part from outside."""

from __future__ import annotations

import pytest

from ekiden.runtime import settings
from ekiden.runtime.container import Container
from ekiden.runtime.settings import JobSettings, LedgerSettings, MisconfiguredFunction, read
from tests.fakes import FakeClock


def test_variables_are_read_by_their_upper_case_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_TABLE", "ledger")
    monkeypatch.setenv("DATA_BUCKET", "data")
    assert read(LedgerSettings) == LedgerSettings("ledger", "data")


def test_all_missing_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_TABLE", raising=False)
    monkeypatch.delenv("DATA_BUCKET", raising=False)
    with pytest.raises(MisconfiguredFunction, match="LEDGER_TABLE, DATA_BUCKET"):
        read(LedgerSettings)


def test_a_function_that_only_describes_jobs_needs_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE_IMAGE_URI", raising=False)
    monkeypatch.setenv("JOB_ROLE_ARN", "arn")
    assert read(JobSettings) == JobSettings("", "arn")
    assert settings.QueueSettings("url").dead_letter_queue_url == "url"


def test_a_container_uses_what_it_is_given_and_knows_what_it_has() -> None:
    clock = FakeClock()
    assert Container(clock=clock).clock is clock
    with pytest.raises(TypeError, match="has no clok, x"):
        Container(clok=clock, x=1)
