"""The API of models, endpoint configurations and endpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from . import views
from .config import Settings
from .endpoints import EndpointManager
from .errors import ApiError, validation
from .listing import page
from .records import EndpointRecord, EndpointStatus, Record
from .serving import Server
from .table import Table
from .tags import to_tags

Request = dict[str, Any]
Operation = Callable[[Request], Request | None]


class HostingApi:
    """Operations by name; requests are already checked against botocore's model."""

    def __init__(
        self,
        settings: Settings,
        models: Table[Record],
        configs: Table[Record],
        endpoints: Table[EndpointRecord],
        manager: EndpointManager,
    ) -> None:
        self._settings = settings
        self._models = models
        self._configs = configs
        self._endpoints = endpoints
        self._manager = manager

    def operations(self) -> dict[str, Operation]:
        """What this part of the API serves."""
        return {
            "CreateModel": self.create_model,
            "DescribeModel": self.describe_model,
            "DeleteModel": self.delete_model,
            "ListModels": self.list_models,
            "CreateEndpointConfig": self.create_config,
            "DescribeEndpointConfig": self.describe_config,
            "DeleteEndpointConfig": self.delete_config,
            "ListEndpointConfigs": self.list_configs,
            "CreateEndpoint": self.create_endpoint,
            "UpdateEndpoint": self.update_endpoint,
            "DescribeEndpoint": self.describe_endpoint,
            "DeleteEndpoint": self.delete_endpoint,
            "ListEndpoints": self.list_endpoints,
        }

    def find_server(self, name: str) -> Server | None:
        """For InvokeEndpoint: the server of an endpoint in service. Raises ApiError as the runtime does."""
        record = self._endpoints.get(name)
        missing = f"Endpoint {name[:63]} of account {self._settings.account} not found."
        if record is None:
            raise ApiError("ValidationError", missing)
        if not record.generation or record.status in (EndpointStatus.FAILED, EndpointStatus.DELETING):
            raise ApiError("ValidationError", f"{missing} It is in status {record.status}, not InService.")
        return self._manager.server(name)

    def create_model(self, request: Request) -> Request:
        """CreateModel, with one container."""
        containers = request.get("Containers", [])
        if len(containers) > 1 or ("PrimaryContainer" in request) == bool(containers):
            raise validation("Specify exactly one container: PrimaryContainer, or one entry of Containers")
        container = request.get("PrimaryContainer") or containers[0]
        if not container.get("Image"):
            raise validation("The container needs an Image: the local job service has no model packages")
        source = container.get("ModelDataSource", {}).get("S3DataSource")
        if source is not None and source["S3DataType"] == "S3Prefix" and source["CompressionType"] != "None":
            raise validation("CompressionType Gzip needs S3DataType S3Object")
        return {"ModelArn": self._create(self._models, "model", "model", request["ModelName"], request)}

    def describe_model(self, request: Request) -> Request:
        """DescribeModel."""
        record = self._get(self._models, "model", "model", request["ModelName"])
        return {
            "EnableNetworkIsolation": False,
            **views.given(record.request, "DescribeModel"),
            "ModelArn": record.arn,
            "CreationTime": record.created_at,
        }

    def delete_model(self, request: Request) -> None:
        """DeleteModel. An endpoint that serves the model goes on."""
        self._delete(self._models, self._get(self._models, "model", "model", request["ModelName"]))

    def list_models(self, request: Request) -> Request:
        """ListModels."""
        shown, token = page(self._models.all(), request, order="Descending")
        return {"Models": [_summary(record, "Model") for record in shown], **token}

    def create_config(self, request: Request) -> Request:
        """CreateEndpointConfig, with one production variant of a known model."""
        name = request["EndpointConfigName"]
        if len(request["ProductionVariants"]) != 1 or request.get("ShadowProductionVariants"):
            raise validation("The local job service serves exactly one production variant and no shadow variants")
        variant = request["ProductionVariants"][0]
        if not variant.get("ModelName") or "ServerlessConfig" in variant:
            raise validation("The production variant needs a ModelName and no ServerlessConfig")
        self._get(self._models, "model", "model", variant["ModelName"])
        arn = self._create(self._configs, "endpoint-config", "endpoint configuration", name, request)
        return {"EndpointConfigArn": arn}

    def describe_config(self, request: Request) -> Request:
        """DescribeEndpointConfig."""
        record = self._config(request["EndpointConfigName"])
        return {
            **views.given(record.request, "DescribeEndpointConfig"),
            "EndpointConfigArn": record.arn,
            "CreationTime": record.created_at,
        }

    def delete_config(self, request: Request) -> None:
        """DeleteEndpointConfig. An endpoint that serves it goes on."""
        self._delete(self._configs, self._config(request["EndpointConfigName"]))

    def list_configs(self, request: Request) -> Request:
        """ListEndpointConfigs."""
        shown, token = page(self._configs.all(), request, order="Descending")
        return {"EndpointConfigs": [_summary(record, "EndpointConfig") for record in shown], **token}

    def create_endpoint(self, request: Request) -> Request:
        """CreateEndpoint."""
        deployment = self._deployment(request["EndpointConfigName"])
        tags = to_tags(request.get("Tags", []))
        return {"EndpointArn": self._manager.create(request["EndpointName"], request, deployment, tags)}

    def update_endpoint(self, request: Request) -> Request:
        """UpdateEndpoint, always with all traffic at once."""
        self._endpoint(request["EndpointName"])
        deployment = self._deployment(request["EndpointConfigName"])
        return {"EndpointArn": self._manager.update(request["EndpointName"], request, deployment)}

    def describe_endpoint(self, request: Request) -> Request:
        """DescribeEndpoint."""
        return views.endpoint(self._endpoint(request["EndpointName"]))

    def delete_endpoint(self, request: Request) -> None:
        """DeleteEndpoint."""
        self._manager.delete(request["EndpointName"])

    def list_endpoints(self, request: Request) -> Request:
        """ListEndpoints."""
        shown, token = page(self._endpoints.all(), request, status=lambda record: record.status, order="Descending")
        return {"Endpoints": [views.endpoint_summary(record) for record in shown], **token}

    def _deployment(self, config_name: str) -> dict[str, Any]:
        """All that a server needs to know, so that models and configurations may go while it serves."""
        config = self._config(config_name)
        variant = config.request["ProductionVariants"][0]
        model = self._get(self._models, "model", "model", variant["ModelName"])
        container = model.request.get("PrimaryContainer") or model.request["Containers"][0]
        return {
            "config": config.name,
            "variant": variant,
            "image": container["Image"],
            "environment": container.get("Environment", {}),
            "model": _model_source(container),
            "role": model.request.get("ExecutionRoleArn", ""),
        }

    def _create(self, table: Table[Record], resource: str, noun: str, name: str, request: Request) -> str:
        now = time.time()
        arn = self._settings.arn(resource, name)
        tags = to_tags(request.get("Tags", []))
        if not table.create(Record(name=name, arn=arn, request=request, created_at=now, modified_at=now, tags=tags)):
            raise validation(f'Cannot create already existing {noun} "{arn}".')
        return arn

    def _delete(self, table: Table[Record], record: Record) -> None:
        with contextlib.suppress(KeyError):  # somebody else deleted it between the look and the act
            table.delete(record.name)

    def _config(self, name: str) -> Record:
        return self._get(self._configs, "endpoint-config", "endpoint configuration", name)

    def _get(self, table: Table[Record], resource: str, noun: str, name: str) -> Record:
        record = table.get(name)
        if record is None:
            raise validation(f'Could not find {noun} "{self._settings.arn(resource, name)}".')
        return record

    def _endpoint(self, name: str) -> EndpointRecord:
        record = self._endpoints.get(name)
        if record is None:
            raise validation(f'Could not find endpoint "{self._settings.arn("endpoint", name)}".')
        return record


def _model_source(container: dict[str, Any]) -> dict[str, Any] | None:
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    if source is not None:
        return {"uri": source["S3Uri"], "archive": source["CompressionType"] == "Gzip"}
    if container.get("ModelDataUrl"):
        return {"uri": container["ModelDataUrl"], "archive": True}
    return None


def _summary(record: Record, noun: str) -> dict[str, Any]:
    return {f"{noun}Name": record.name, f"{noun}Arn": record.arn, "CreationTime": record.created_at}
