"""As much of SageMaker as the adapter speaks, in memory: a client for the real adapter that counts its calls.

The contract of ``ports.Jobs`` holds it to the real job service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from ekiden.ports import Clock

OVER = frozenset({"Completed", "Failed", "Stopped"})
IN_PROGRESS = frozenset({"Creating", "Updating"})
TUNING = "HyperParameterTuningJob"
JOBS = ("ProcessingJob", "TrainingJob", TUNING)
ENDS = {"ProcessingJob": "ProcessingEndTime", "TrainingJob": "TrainingEndTime", TUNING: "HyperParameterTuningEndTime"}
BEGINS = {"ProcessingJob": "ProcessingStartTime", "TrainingJob": "TrainingStartTime"}


@dataclass(slots=True)
class _Resource:
    answer: dict[str, Any]
    created_at: datetime
    changed_at: datetime
    name: str
    more: dict[str, Any] = field(default_factory=dict)


class InMemorySageMaker:
    """Jobs run until ``end`` ends them, endpoints are updated until ``settle`` settles them."""

    def __init__(self, clock: Clock) -> None:
        self.calls: Counter[str] = Counter()
        self.created: list[str] = []
        self._clock = clock
        self._kept: dict[str, dict[str, _Resource]] = {
            kind: {} for kind in (*JOBS, "Model", "EndpointConfig", "Endpoint")
        }

    # What a test does

    def end(self, name: str, status: str, reason: str | None = None) -> None:
        """End a job; a tuning job that completes has a best training job, one that fails a failed one."""
        for kind in JOBS:
            if (found := self._kept[kind].get(name)) is not None:
                self._change(found, **{f"{kind}Status": status, ENDS[kind]: self._clock.now()})
                if kind == TUNING and status == "Completed":
                    found.answer["BestTrainingJob"] = {"TrainingJobName": f"{name}-002-0123abcd"}
                if kind == TUNING and reason is not None:
                    child = {"TrainingJobName": f"{name}-001-0123abcd", "TrainingJobStatus": status}
                    found.more["failed"] = child | {"FailureReason": reason}
                    found.answer["FailureReason"] = "All training jobs failed."
                elif reason is not None:
                    found.answer["FailureReason"] = reason
                return
        raise KeyError(name)

    def settle(self, name: str) -> None:
        """Let an endpoint's update succeed."""
        found = self._kept["Endpoint"][name]
        pending = found.answer.pop("PendingDeploymentSummary", None)
        config = pending["EndpointConfigName"] if pending else found.answer["EndpointConfigName"]
        self._change(found, EndpointStatus="InService", EndpointConfigName=config)

    def input_of(self, name: str, channel: str) -> str:
        """The S3 prefix that a job reads a channel from."""
        if (found := self._kept["ProcessingJob"].get(name)) is not None:
            inputs = {item["InputName"]: item["S3Input"]["S3Uri"] for item in found.answer["ProcessingInputs"]}
        else:
            tuned, trained = self._kept[TUNING].get(name), self._kept["TrainingJob"].get(name)
            definition = tuned.answer["TrainingJobDefinition"] if tuned else trained.answer if trained else {}
            channels = definition["InputDataConfig"]
            inputs = {item["ChannelName"]: item["DataSource"]["S3DataSource"]["S3Uri"] for item in channels}
        return str(inputs[channel])

    def running(self) -> list[str]:
        """Names of jobs that run."""
        return [
            name
            for kind in JOBS
            for name, found in self._kept[kind].items()
            if found.answer[f"{kind}Status"] not in OVER
        ]

    # The client

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Any operation by its name in snake case."""
        answer: dict[str, Any] = getattr(self, operation)(**request)
        return answer

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        verb, _, rest = operation.partition("_")
        kind = "".join(word.capitalize() for word in rest.split("_"))
        handle = {"create": self._create, "describe": self._describe, "stop": self._stop, "list": self._list}.get(verb)
        if operation == "update_endpoint":
            handle = self._update
        elif operation == "list_training_jobs_for_hyper_parameter_tuning_job":
            kind, handle = TUNING, self._list_trainings
        elif operation == "delete_endpoint":
            handle = self._delete
        if handle is None or operation.startswith("__"):
            raise AttributeError(operation)

        def act(**request: Any) -> dict[str, Any]:
            self.calls[operation] += 1
            return handle(kind.removesuffix("s") if verb == "list" else kind, request)

        return act

    def _create(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name, kept, now = request[f"{kind}Name"], self._kept[kind], self._clock.now()
        if name in kept:
            code = "ResourceInUse" if kind.endswith("Job") else "ValidationException"
            raise refusal(code, f"Cannot create already existing {kind}")
        if kind == "Endpoint" and request["EndpointConfigName"] not in self._kept["EndpointConfig"]:
            raise refusal("ValidationException", "Could not find endpoint configuration")
        answer = request | {"CreationTime": now, "LastModifiedTime": now}
        if kind.endswith("Job"):
            answer |= {f"{kind}Status": "InProgress"}
            if kind in BEGINS:
                answer[BEGINS[kind]] = now
            self.created.append(name)
        elif kind == "Endpoint":
            answer |= {"EndpointStatus": "Creating"}
            self.created.append(request["EndpointConfigName"])
        kept[name] = _Resource(answer, now, now, name)
        return {f"{kind}Arn": f"arn:aws:sagemaker:us-east-1:000000000000:{kind.lower()}/{name}"}

    def _describe(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        return dict(self._found(kind, request).answer)

    def _stop(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        found = self._found(kind, request)
        if found.answer[f"{kind}Status"] in OVER:
            raise refusal("ValidationException", "The request was rejected: the job is not in progress")
        self.end(found.name, "Stopped")
        return {}

    def _update(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        found = self._found(kind, request)
        if found.answer["EndpointStatus"] in IN_PROGRESS:
            raise refusal("ValidationException", "Cannot update in-progress endpoint")
        pending = {"EndpointConfigName": request["EndpointConfigName"]}
        self._change(found, EndpointStatus="Updating", PendingDeploymentSummary=pending)
        self.created.append(request["EndpointConfigName"])
        return {}

    def _delete(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        found = self._found(kind, request)
        if found.answer["EndpointStatus"] in IN_PROGRESS:
            raise refusal("ValidationException", "Cannot update in-progress endpoint")
        del self._kept[kind][found.name]
        return {}

    def _list(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        after, size, start = request["LastModifiedTimeAfter"], request["MaxResults"], int(request.get("NextToken", 0))
        found = [kept for kept in self._kept[kind].values() if kept.changed_at > after]
        found.sort(key=lambda kept: (kept.created_at, kept.name), reverse=request["SortOrder"] == "Descending")
        shown = found[start : start + size]
        names = (f"{kind}Name", f"{kind}Status", "CreationTime", "LastModifiedTime")
        key = "Endpoints" if kind == "Endpoint" else f"{kind}Summaries"
        more = {"NextToken": str(start + size)} if len(found) > start + size else {}
        return {key: [{name: kept.answer[name] for name in names} for kept in shown]} | more

    def _list_trainings(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        found = self._found(kind, request)
        if request.get("StatusEquals") == "Failed":
            shown = [found.more["failed"]] if "failed" in found.more else []
        else:
            best = found.answer.get("BestTrainingJob")
            shown = [best | {"TrainingJobStatus": "Completed", "TunedHyperParameters": {}}] if best else []
        return {"TrainingJobSummaries": shown}

    def _found(self, kind: str, request: dict[str, Any]) -> _Resource:
        found = self._kept[kind].get(request[f"{kind}Name"])
        if found is None:
            code = "ResourceNotFound" if kind in {"ProcessingJob", TUNING} else "ValidationException"
            raise refusal(code, f"Could not find {kind}")
        return found

    def _change(self, found: _Resource, **changes: Any) -> None:
        found.changed_at = self._clock.now()
        found.answer |= changes | {"LastModifiedTime": found.changed_at}


def refusal(code: str, message: str) -> ClientError:
    """An error as SageMaker gives it."""
    return ClientError({"Error": {"Code": code, "Message": message}}, "SageMaker")
