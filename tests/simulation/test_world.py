"""The simulator itself: what it makes of crashes, pauses, queues and the template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ekiden.domain.model import Stage
from tests.fakes.template import resources
from tests.simulation.kernel import Boundary, Fault, Invocation, Kernel, Verdict
from tests.simulation.queues import Queue
from tests.simulation.weather import CALM, Sky
from tests.simulation.wiring import OUR_BUS, QueueWiring, pattern, wiring

Body = Callable[[], Any]
ORDERLY: Verdict = (None, 0.01)


class Bench:
    """A kernel, and workers that write down how far they came."""

    def __init__(self, judge: Callable[[Boundary], Verdict], *, zombies: bool = False) -> None:
        self.kernel = Kernel(judge, lambda: zombies)
        self.done: list[str] = []
        self.seen: list[str | None] = []

    def start(self, timeout: float = 30.0) -> None:
        """A worker with one call."""
        self.kernel.invoke("worker", timeout, self._work, lambda invocation, answer, why: self.seen.append(why))

    def _work(self) -> None:
        self.kernel.boundary("Service.call", "before")
        self.done.append("effect")
        self.kernel.boundary("Service.call", "after")
        self.done.append("rest")


@pytest.mark.parametrize(("moment", "done"), [("before", []), ("after", ["effect"])])
def test_a_worker_that_crashes_has_had_the_effects_before_and_none_after(moment: str, done: list[str]) -> None:
    bench = Bench(lambda boundary: (Fault.CRASH, 0.0) if boundary.moment == moment else ORDERLY)
    bench.start()
    bench.kernel.run(60)
    assert bench.done == done
    assert bench.seen == [f"crashed {moment} Service.call"]


@pytest.mark.parametrize(("zombies", "done"), [(False, []), (True, ["effect", "rest"])])
def test_a_worker_that_stands_still_is_killed_at_its_time_out_or_wakes_unheard(zombies: bool, done: list[str]) -> None:
    bench = Bench(lambda boundary: (Fault.PAUSE, 90.0) if boundary.number == 0 else ORDERLY, zombies=zombies)
    bench.start()
    bench.kernel.run(31)
    assert (bench.seen, bench.done) == (["timed out"], [])
    bench.kernel.run(100)
    assert (bench.seen, bench.done) == (["timed out"], done)


def test_workers_interleave_at_their_calls() -> None:
    bench = Bench(lambda boundary: ORDERLY)
    bench.start()
    bench.start()
    bench.kernel.run(60)
    assert bench.done == ["effect", "effect", "rest", "rest"]


def test_a_message_comes_again_after_its_visibility_time_out_and_is_given_up_after_its_receives() -> None:
    kernel, received = Kernel(lambda boundary: ORDERLY, lambda: False), []
    work = QueueWiring("Work", "worker", visibility=180.0, max_receives=5, batch_size=10, max_concurrency=2)

    def fail(function: str, event: dict[str, Any], settle: Callable[[Invocation, Any, str | None], None]) -> None:
        received.append(round(kernel.now))
        settle(Invocation(1, function, kernel.now, 30.0, settle), None, "crashed")

    queue = Queue(work, kernel, Sky(CALM, 0), fail)
    queue.send("body")
    kernel.run(3600)
    assert received == [0, 180, 360, 540, 720]
    (letter,) = queue.dead
    assert letter.body == "body"
    assert queue.unexplained == [letter], "no fault was injected: the handler itself failed"


def test_the_rules_of_the_template_feed_each_stage_from_its_own_events() -> None:
    for stage in Stage:
        event = {"source": "ekiden.ledger", "detail-type": "StageReady", "detail": {"data": {"stage": stage.value}}}
        fed = [rule.queue for rule in wiring().rules if rule.bus == OUR_BUS and rule.matches(event)]
        assert [wiring().queues[queue].function.partition("_")[0] for queue in fed] == [stage.value]


def test_every_queue_with_a_function_is_in_the_simulation() -> None:
    mapped = {
        source["Properties"]["Queue"]["Fn::GetAtt"].partition(".")[0]
        for function in resources("AWS::Serverless::Function").values()
        for source in function.get("Events", {}).values()
        if source["Type"] == "SQS"
    }
    assert set(wiring().queues) == mapped


def test_a_pattern_that_the_simulator_does_not_understand_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="anything-but"):
        pattern({"source": [{"anything-but": ["ekiden"]}]})
