"""In-memory ports, honest enough to stand for the real ones: the contract suite runs against both."""

from tests.fakes.io import FakeBus, FakeEndpoints, FakeLogs, FakeMessages, FakeObjects
from tests.fakes.jobs import FakeJobs
from tests.fakes.ledger import InMemoryLedger
from tests.fakes.scores import InMemoryScoreLedger
from tests.fakes.time import NOW, FakeClock, SeededRandomness
from tests.fakes.world import World

__all__ = [
    "NOW",
    "FakeBus",
    "FakeClock",
    "FakeEndpoints",
    "FakeJobs",
    "FakeLogs",
    "FakeMessages",
    "FakeObjects",
    "InMemoryLedger",
    "InMemoryScoreLedger",
    "SeededRandomness",
    "World",
]
