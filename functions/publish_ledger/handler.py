"""Reacts to outbox items in the ledger's stream: makes them events on the bus, each at least once."""

from __future__ import annotations

from typing import Any

from ekiden.ports import OutboxItem
from ekiden.runtime.container import Container, container
from ekiden.runtime.observability import count, logger, metrics


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any, parts: Container | None = None) -> dict[str, Any]:
    """Lambda's entry point. An error fails the whole batch: the stream sends it again, consumers know duplicates."""
    parts = parts or container()
    # The mapping's filter lets outbox items through only; anything else has nothing to publish.
    images = [image for record in event["Records"] if "detail" in (image := record["dynamodb"].get("NewImage", {}))]
    parts.bus.publish([OutboxItem(image["detail_type"]["S"], image["detail"]["S"]) for image in images])
    count("EventsPublished", len(images))
    metrics.flush_metrics()
    return {"batchItemFailures": []}
