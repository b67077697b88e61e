"""Processing jobs: named inputs in, named outputs out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from . import mlroot
from .errors import validation
from .records import JobRecord, Kind
from .s3 import Store
from .training import check_single_host

_CONFIGURED = (
    "ProcessingJobName",
    "AppSpecification",
    "Environment",
    "ExperimentConfig",
    "NetworkConfig",
    "ProcessingInputs",
    "ProcessingOutputConfig",
    "ProcessingResources",
    "RoleArn",
    "StoppingCondition",
)
_BELOW = f"{mlroot.OPT_ML}/processing"


class Processing:
    """CreateProcessingJob as files, variables and uploads."""

    kind = Kind.PROCESSING
    log_group = "/aws/sagemaker/ProcessingJobs"

    def check(self, request: dict[str, Any]) -> None:
        """Refuse several instances, manifests, data set definitions and paths outside ``/opt/ml/processing``."""
        check_single_host(request["ProcessingResources"]["ClusterConfig"], "processing")
        for number, item in enumerate(request.get("ProcessingInputs", []), 1):
            where = f"processingInputs.{number}.member"
            source = item.get("S3Input")
            if source is None or source["S3DataType"] != "S3Prefix":
                raise validation(f"{where}: the local job service reads S3Input with S3DataType S3Prefix only")
            mlroot.check_local_path(source.get("LocalPath", ""), f"{where}.s3Input.localPath", _BELOW)
        for number, item in enumerate(_outputs(request), 1):
            where = f"processingOutputConfig.outputs.{number}.member"
            target = item.get("S3Output")
            if target is None:
                raise validation(f"{where}: the local job service writes S3Output only")
            mlroot.check_local_path(target.get("LocalPath", ""), f"{where}.s3Output.localPath", _BELOW)

    def container(self, request: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        """The request's entrypoint and arguments, or the image's own."""
        app = request["AppSpecification"]
        return (
            app["ImageUri"],
            list(app.get("ContainerEntrypoint", [])),
            list(app.get("ContainerArguments", [])),
        )

    def prepare(self, record: JobRecord, root: Path, store: Store, stop: threading.Event) -> None:
        """Write ``config``, make the output folders, fetch the inputs."""
        request = record.request
        mlroot.make_root(root, "config", "processing", "output")
        configured = {name: request[name] for name in _CONFIGURED if name in request}
        mlroot.write_config(root, "config/processingjobconfig.json", {"ProcessingJobArn": record.arn, **configured})
        instance_type = request["ProcessingResources"]["ClusterConfig"]["InstanceType"]
        mlroot.write_config(root, "config/resourceconfig.json", mlroot.resource_config(instance_type))
        for item in _outputs(request):
            mlroot.locate(root, item["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        for item in request.get("ProcessingInputs", []):
            source = item["S3Input"]
            target = mlroot.locate(root, source["LocalPath"])
            store.fetch_prefix(source["S3Uri"], target, role=request["RoleArn"], stop=stop)

    def checkpoints(self, record: JobRecord, root: Path, store: Store) -> None:
        """Processing jobs have none."""

    def environment(self, record: JobRecord, root: Path) -> dict[str, str]:
        """PROCESSING_JOB_ARN, and its name."""
        return {"PROCESSING_JOB_ARN": record.arn, "PROCESSING_JOB_NAME": record.name}

    def deliver(self, record: JobRecord, root: Path, store: Store, *, succeeded: bool) -> None:
        """Upload the outputs of a program that succeeded; half an output must not look like one."""
        if succeeded:
            for item in _outputs(record.request):
                target = item["S3Output"]
                store.put_folder(mlroot.locate(root, target["LocalPath"]), target["S3Uri"])


def _outputs(request: dict[str, Any]) -> list[dict[str, Any]]:
    return list(request.get("ProcessingOutputConfig", {}).get("Outputs", []))
