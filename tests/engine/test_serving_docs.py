"""Every request in docs/serving.md, sent over HTTP, gets the answer that stands below it."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ekiden_engine.serve import ModelServer
from ekiden_engine.serving_routing import HEADER
from tests.engine.serving_factories import make_served

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
MEDIA = {"json": "application/json", "csv": "text/csv"}


class Example(NamedTuple):
    kind: str
    attributes: str
    request: str
    answer: str


def examples() -> list[Example]:
    blocks = re.findall(r"^```(json|csv) ?([^\n]*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) % 2 == 0
    found = []
    for (kind, attributes, request), (answer_kind, said, answer) in zip(blocks[::2], blocks[1::2], strict=True):
        assert (answer_kind, said) == (kind, "")
        found.append(Example(kind, attributes, request, answer))
    return found


@pytest.fixture(scope="module")
def connection() -> Iterator[http.client.HTTPConnection]:
    with ModelServer(make_served(), "127.0.0.1", 0) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        yield connection
        connection.close()


@pytest.mark.parametrize("example", examples())
def test_the_request_gets_the_answer_of_the_page(connection: http.client.HTTPConnection, example: Example) -> None:
    headers = {"Content-Type": MEDIA[example.kind], HEADER: example.attributes}
    connection.request("POST", "/invocations", example.request.encode(), headers)
    response = connection.getresponse()
    body = response.read()
    if example.kind == "csv":
        assert (response.status, body.decode()) == (200, example.answer)
        return
    wanted: dict[str, Any] = json.loads(example.answer)
    assert json.loads(body) == wanted
    assert response.status == (400 if "code" in wanted else 200)


def test_the_page_has_an_example_of_every_payload() -> None:
    text = "\n".join(example.request for example in examples())
    asked = (
        "predict_tail",
        "predict_head",
        "embed_knn",
        "vertices",
        "exclude_flag",
        '"headNode"',
        "nodeType",
        "property",
    )
    assert [word for word in asked if word not in text] == []
