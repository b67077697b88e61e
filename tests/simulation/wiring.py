"""What the template wires to what: functions, their queues and time-outs, and the rules that feed the queues.

Read from ``template.yaml``, so that a rule or a time-out changed there changes the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.fakes.template import resources, template

DEFAULT_BUS = "default"
OUR_BUS = "ekiden"
BUCKET = "ekiden-data"

Matcher = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class QueueWiring:
    """A queue, and the function that reads it. Times in seconds."""

    name: str
    function: str
    visibility: float
    max_receives: int
    batch_size: int
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class RuleWiring:
    """A rule on a bus: events that match go to ``queue``."""

    name: str
    bus: str
    matches: Matcher
    queue: str


@dataclass(frozen=True, slots=True)
class StreamWiring:
    """The mapping from the ledger's stream to the function that publishes."""

    function: str
    batch_size: int
    lanes: int
    max_retries: int


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything between the functions."""

    timeouts: Mapping[str, float]
    queues: Mapping[str, QueueWiring]
    rules: tuple[RuleWiring, ...]
    stream: StreamWiring
    score_queue: str
    sweep_every: float


@cache
def wiring() -> Wiring:
    """The template's wiring."""
    functions = resources("AWS::Serverless::Function")
    globals_ = template()["Globals"]["Function"]
    timeouts = {_folder(f): float(f.get("Timeout", globals_["Timeout"])) for f in functions.values()}
    queues: dict[str, QueueWiring] = {}
    streams: list[StreamWiring] = []
    score_queue = ""
    for function in functions.values():
        variables = function.get("Environment", {}).get("Variables", {})
        score_queue = _ref(variables["SCORE_QUEUE_URL"]) if "SCORE_QUEUE_URL" in variables else score_queue
        for source in function.get("Events", {}).values():
            properties = source["Properties"]
            if source["Type"] == "SQS":
                queue = _queue(_ref(properties["Queue"]), _folder(function), properties)
                queues[queue.name] = queue
            elif source["Type"] == "DynamoDB":
                streams.append(
                    StreamWiring(
                        _folder(function),
                        properties["BatchSize"],
                        properties.get("ParallelizationFactor", 1),
                        properties["MaximumRetryAttempts"],
                    )
                )
    rules = tuple(
        RuleWiring(name, _bus(rule), pattern(_resolved(rule["EventPattern"])), _ref(target["Arn"]))
        for name, rule in resources("AWS::Events::Rule").items()
        for target in rule["Targets"]
        if _ref(target["Arn"]) in queues
    )
    (schedule,) = resources("AWS::Scheduler::Schedule").values()
    return Wiring(timeouts, queues, rules, streams[0], score_queue, _seconds(schedule["ScheduleExpression"]))


def pattern(document: Mapping[str, Any]) -> Matcher:
    """An EventBridge pattern as a predicate: exact values, ``prefix`` and ``exists``; every field must match.

    Raises:
        NotImplementedError: the pattern uses an operator that is not known here.
    """
    fields = {
        name: pattern(wanted) if isinstance(wanted, Mapping) else _any_of(wanted) for name, wanted in document.items()
    }

    def matches(event: Any) -> bool:
        return isinstance(event, Mapping) and all(test(event.get(name)) for name, test in fields.items())

    return matches


def _any_of(alternatives: Iterable[Any]) -> Matcher:
    tests = [_operator(item) if isinstance(item, Mapping) else _is(item) for item in alternatives]
    return lambda value: any(test(value) for test in tests)


def _is(wanted: Any) -> Matcher:
    return lambda value: bool(value == wanted)


def _operator(item: Mapping[str, Any]) -> Matcher:
    match dict(item):
        case {"prefix": str(prefix)}:
            return lambda value: isinstance(value, str) and value.startswith(prefix)
        case {"exists": bool(wanted)}:
            return lambda value: (value is not None) is wanted
    raise NotImplementedError(f"the simulator does not know the pattern {dict(item)}")


def _queue(name: str, function: str, mapping: Mapping[str, Any]) -> QueueWiring:
    properties = resources("AWS::SQS::Queue")[name]
    concurrency = mapping["ScalingConfig"]["MaximumConcurrency"]
    return QueueWiring(
        name=name,
        function=function,
        visibility=float(properties["VisibilityTimeout"]),
        max_receives=int(properties["RedrivePolicy"]["maxReceiveCount"]),
        batch_size=int(mapping["BatchSize"]),
        max_concurrency=concurrency if isinstance(concurrency, int) else 2,
    )


def _folder(function: Mapping[str, Any]) -> str:
    return str(function["CodeUri"]).rstrip("/").rpartition("/")[2]


def _ref(value: Any) -> str:
    """The logical id that ``!Ref`` or ``!GetAtt`` names."""
    if isinstance(value, str):
        return value
    (named,) = value.values()
    return str(named if isinstance(named, str) else named[0]).partition(".")[0]


def _bus(rule: Mapping[str, Any]) -> str:
    return OUR_BUS if "EventBusName" in rule else DEFAULT_BUS


def _resolved(value: Any) -> Any:
    """``value`` with parameters replaced by their defaults."""
    if isinstance(value, Mapping):
        if set(value) == {"Ref"}:
            return _parameter(str(value["Ref"]))
        return {name: _resolved(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    return value


def _parameter(name: str) -> Any:
    parameter = template()["Parameters"].get(name)
    if parameter is None:
        return BUCKET if name == "DataBucket" else name
    default = parameter.get("Default", "")
    return str(default).split(",") if parameter["Type"] == "CommaDelimitedList" else default


def _seconds(expression: str) -> float:
    number, unit = expression.removeprefix("rate(").removesuffix(")").split()
    return float(number) * {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}[unit]
