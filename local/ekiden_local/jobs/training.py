"""Training jobs: channels in, a model out."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

from . import mlroot
from .checkpoints import Checkpoints, check_checkpoints
from .errors import ApiError, validation
from .kinds import max_runtime
from .records import JobRecord, Kind, StopCause
from .s3 import Store, join_uri


class Training:
    """CreateTrainingJob as files, variables and uploads."""

    kind = Kind.TRAINING
    log_group = "/aws/sagemaker/TrainingJobs"

    def check(self, request: dict[str, Any]) -> None:
        """Refuse what needs more than one machine, or another way of reading data than files."""
        algorithm = request["AlgorithmSpecification"]
        if not algorithm.get("TrainingImage"):
            raise validation(
                "AlgorithmSpecification.TrainingImage is required: the local job service has no AlgorithmName"
            )
        if "OutputDataConfig" not in request:
            raise validation("OutputDataConfig is required")
        check_single_host(request.get("ResourceConfig", {}), "training")
        check_checkpoints(request)
        check_spot(request)
        names: set[str] = set()
        for number, channel in enumerate(request.get("InputDataConfig", []), 1):
            where = f"inputDataConfig.{number}.member"
            if channel["ChannelName"] in names or not channel["ChannelName"].strip("."):
                raise validation(f"{where}.channelName: channel names must be unique and no mere dots")
            names.add(channel["ChannelName"])
            if channel.get("InputMode", algorithm.get("TrainingInputMode")) == "Pipe":
                raise validation(f"{where}: the local job service reads channels in File mode, not in Pipe mode")
            source = channel["DataSource"].get("S3DataSource")
            if source is None or source["S3DataType"] != "S3Prefix":
                raise validation(f"{where}.dataSource: the local job service reads S3DataType S3Prefix only")

    def container(self, request: dict[str, Any]) -> tuple[str, list[str], list[str]]:
        """As ``docker run IMAGE train``, unless the request names an entrypoint or arguments."""
        algorithm = request["AlgorithmSpecification"]
        entrypoint = list(algorithm.get("ContainerEntrypoint", []))
        arguments = list(algorithm.get("ContainerArguments", []))
        return algorithm["TrainingImage"], entrypoint, arguments if entrypoint or arguments else ["train"]

    def prepare(self, record: JobRecord, root: Path, store: Store, stop: threading.Event) -> None:
        """Write ``input/config`` and fetch each channel to ``input/data/<channel>``."""
        request = record.request
        mlroot.make_root(root, "input/config", "input/data", "model", "output/data")
        channels = request.get("InputDataConfig", [])
        mlroot.write_config(root, "input/config/hyperparameters.json", request.get("HyperParameters", {}))
        mlroot.write_config(
            root, "input/config/inputdataconfig.json", {c["ChannelName"]: _described(c) for c in channels}
        )
        mlroot.write_config(root, "input/config/resourceconfig.json", mlroot.resource_config(_instance_type(request)))
        for channel in channels:
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            store.fetch_prefix(uri, root / "input/data" / channel["ChannelName"], role=request["RoleArn"], stop=stop)
        if (checkpoints := self.checkpoints(record, root, store)) is not None:
            checkpoints.fetch(stop)

    def checkpoints(self, record: JobRecord, root: Path, store: Store) -> Checkpoints | None:
        """The folder of the request's ``CheckpointConfig``."""
        return Checkpoints(record.request, root, store) if "CheckpointConfig" in record.request else None

    def environment(self, record: JobRecord, root: Path) -> dict[str, str]:
        """TRAINING_JOB_*, and the SM_* variables that the training toolkit gives to scripts."""
        request = record.request
        hyperparameters = request.get("HyperParameters", {})
        channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
        resources = mlroot.resource_config(_instance_type(request))
        return {
            "TRAINING_JOB_NAME": record.name,
            "TRAINING_JOB_ARN": record.arn,
            "SM_MODEL_DIR": str(root / "model"),
            "SM_INPUT_DIR": str(root / "input"),
            "SM_INPUT_CONFIG_DIR": str(root / "input/config"),
            "SM_OUTPUT_DIR": str(root / "output"),
            "SM_OUTPUT_DATA_DIR": str(root / "output/data"),
            "SM_CHANNELS": json.dumps(channels),
            **{f"SM_CHANNEL_{_upper(name)}": str(root / "input/data" / name) for name in channels},
            "SM_HPS": json.dumps(hyperparameters),
            **{f"SM_HP_{_upper(name)}": value for name, value in hyperparameters.items()},
            "SM_RESOURCE_CONFIG": json.dumps(resources),
            "SM_HOSTS": json.dumps([mlroot.HOST]),
            "SM_CURRENT_HOST": mlroot.HOST,
            "SM_CURRENT_INSTANCE_TYPE": _instance_type(request),
            "SM_NETWORK_INTERFACE_NAME": "lo",
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "SM_NUM_GPUS": "0",
            "SM_LOG_LEVEL": "20",
        }

    def deliver(self, record: JobRecord, root: Path, store: Store, *, succeeded: bool) -> None:
        """Model and output data; a stopped program's model too, for it had its grace to save one."""
        output = record.request["OutputDataConfig"]
        base = join_uri(output["S3OutputPath"], record.name, "output")
        with_model = succeeded or record.stop_cause in (StopCause.USER, StopCause.MAX_RUNTIME)
        if output.get("CompressionType", "GZIP") == "NONE":
            if with_model:
                store.put_folder(root / "model", join_uri(base, "model"))
            store.put_folder(root / "output/data", join_uri(base, "data"))
        else:
            if with_model:
                store.put_archive(root / "model", join_uri(base, "model.tar.gz"), root / "model.tar.gz")
            store.put_archive(root / "output/data", join_uri(base, "output.tar.gz"), root / "output.tar.gz")


def model_artifacts(record: JobRecord) -> str:
    """S3 URI of the model: an archive, or a prefix that ends in "/"."""
    output = record.request["OutputDataConfig"]
    base = join_uri(output["S3OutputPath"], record.name, "output")
    return f"{base}/model/" if output.get("CompressionType", "GZIP") == "NONE" else f"{base}/model.tar.gz"


def check_single_host(resources: dict[str, Any], what: str) -> None:
    """Refuse more than one instance, in the words of an account whose quota is one. Raises ApiError."""
    count = resources.get("InstanceCount", 1)
    if count > 1:
        raise ApiError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{resources.get('InstanceType')} for {what} job usage' is 1 Instances, "
            f"with current utilization of 0 Instances and a request delta of {count} Instances. The local job "
            "service runs a job on this machine only: use InstanceCount 1.",
        )


def check_spot(request: dict[str, Any]) -> None:
    """Refuse a spot job whose limits do not fit together. Raises ApiError."""
    condition = request.get("StoppingCondition", {})
    wait = condition.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining") and (wait is None or wait < max_runtime(request)):
        raise validation(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )


def _instance_type(request: dict[str, Any]) -> str:
    return str(request.get("ResourceConfig", {}).get("InstanceType", "local"))


def _described(channel: dict[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    described = {
        "TrainingInputMode": "File",
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    if "ContentType" in channel:
        described["ContentType"] = channel["ContentType"]
    return described


def _upper(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())
