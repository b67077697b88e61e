"""Whatever stands in a payload, the answer is an answer or a refusal with a code: never a fault of the server."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden_engine.serving import JSON, answer
from ekiden_engine.serving_errors import BadRequest
from tests.engine.serving_factories import make_served
from tests.engine.test_serving_docs import examples

MODEL = make_served()
VALID = [json.loads(example.request) for example in examples() if example.kind == "json"]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, 1e308, -1, 2**63, float("nan"), float("inf")]),
    st.text(max_size=3),
    st.sampled_from(
        ["user", "movie", "likes", "rated", "mask", "zoe", "ada", "\ud800", "\x00", "predict_tail", "rank"]
    ),
    st.lists(st.one_of(st.text(max_size=2), st.integers(), st.none()), max_size=3),
    st.dictionaries(
        st.sampled_from(["nodeId", "properties", "neighbours", "age", ""]), st.text(max_size=2), max_size=2
    ),
)


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places of a document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(path for key, value in inside for path in paths(value, (*at, key)))]


def answered(body: bytes) -> bytes | BadRequest:
    try:
        return answer(MODEL, JSON, body)[1]
    except BadRequest as refused:
        return refused


@settings(max_examples=12000, deadline=None)
@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 10**6), JUNK, st.booleans()), min_size=1, max_size=3))
def test_a_payload_with_anything_anywhere_is_answered_or_refused(
    valid: dict[str, Any], changes: list[tuple[int, Any, bool]]
) -> None:
    document = copy.deepcopy(valid)
    for place, junk, remove in changes:
        places = paths(document)[1:]
        if not places:
            break
        *parents, last = places[place % len(places)]
        inside: Any = document
        for key in parents:
            inside = inside[key]
        if remove:
            del inside[last]
        else:
            inside[last] = junk
    found = answered(json.dumps(document).encode())
    if isinstance(found, BadRequest):
        assert (found.status, found.code.isupper(), len(found.message) < 1200) == (400, True, True)
    else:
        for entries in json.loads(found)["output"].values():
            assert all(isinstance(entry["mlResults"], list) for entry in entries)
