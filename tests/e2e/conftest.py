"""One embedded cloud for the whole session: the real template, IAM enforced, on free ports, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ekiden_local import supervisor
from tests.e2e.support import Embedded, Trained


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    home = tmp_path_factory.mktemp("ekiden-home")
    cloud = supervisor.up("e2e", home=home, auth=True)
    try:
        yield Embedded(cloud, home)
    finally:
        supervisor.down("e2e", home=home, purge=True)


@pytest.fixture(scope="session")
def trained(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The main job, once for all tests that look at what it left."""
    graph = tmp_path_factory.mktemp("graph")
    made = embedded.ekiden("generate", "--out", graph, "--users", "300", "--movies", "200", "--ratings", "12000")
    assert made.code == 0, made.err
    run = embedded.ekiden("run", graph / "spec.yaml", "--watch", "--json")
    assert run.code == 0, run.err
    return Trained(run.json["run_id"], run.json, graph, run.json["endpoint"])
