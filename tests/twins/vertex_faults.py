"""Misbehaviour of the Vertex twin: of its next calls, and of its next jobs."""

import dataclasses
import re
import threading
import time
from collections.abc import Callable

from twins.proxy import LostReplyError
from twins.vertex_wire import TYPE_URL, Call, RefusalError

CONSUMER = "projects/704500000001"
Fault = Callable[[Call, Callable[[], object]], object]
"""Answers a call, by means of the service (its second argument) or without it."""


def connection_reset(call: Call, serve: Callable[[], object]) -> object:
    """The connection breaks before the service hears of the call."""
    raise LostReplyError


def lost_reply(call: Call, serve: Callable[[], object]) -> object:
    """The service acts, and its reply is lost: a job exists, and its creator does not know its name."""
    serve()
    raise LostReplyError


def refusal(name: str, message: str = "a fault of the tests", details: list | None = None) -> Fault:
    """The service answers with an error, such as `UNAVAILABLE`, and has not acted."""

    def fault(call: Call, serve: Callable[[], object]) -> object:
        raise RefusalError(name, message, details)

    return fault


def refusal_after_acting(name: str) -> Fault:
    """The service acts, and answers with an error."""

    def fault(call: Call, serve: Callable[[], object]) -> object:
        serve()
        raise RefusalError(name, "a fault of the tests")

    return fault


def silence(seconds: float, acts: bool = False) -> Fault:
    """Nothing comes for so long, and then the connection breaks; `acts`: though the service has acted."""

    def fault(call: Call, serve: Callable[[], object]) -> object:
        if acts:
            serve()
        time.sleep(seconds)
        raise LostReplyError

    return fault


def permission_denied(
    permission: str, resource: str = "//aiplatform.googleapis.com/projects/proj/locations/us-central1"
) -> Fault:
    """403, as IAM words it: https://cloud.google.com/iam/docs/permission-error-messages."""
    message = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
    details = {
        "@type": f"{TYPE_URL}google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "aiplatform.googleapis.com",
        "metadata": {"permission": permission, "resource": resource},
    }
    return refusal("PERMISSION_DENIED", message, [details])


def quota_exceeded(metric: str = "aiplatform.googleapis.com/custom_model_training_cpus") -> Fault:
    """429, as Vertex words it when a job asks for more than the project's quota.

    https://cloud.google.com/vertex-ai/docs/quotas#custom-trained_models_quotas
    """
    message = f"The following quota metrics exceed quota limits: {metric}"
    return refusal("RESOURCE_EXHAUSTED", message, [quota_failure(metric)])


def rate_limited(metric: str = "aiplatform.googleapis.com/resource_management_requests") -> Fault:
    """429, for too many calls a minute, which passes by itself.

    https://cloud.google.com/docs/quotas/troubleshoot
    """
    message = (
        f"Quota exceeded for quota metric 'Resource management requests' and limit 'Resource management requests per"
        f" minute per region' of service 'aiplatform.googleapis.com' for consumer '{CONSUMER}'."
    )
    details = {
        "@type": f"{TYPE_URL}google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {"quota_metric": metric, "consumer": CONSUMER, "service": "aiplatform.googleapis.com"},
    }
    return refusal("RESOURCE_EXHAUSTED", message, [details])


def quota_failure(metric: str) -> dict:
    """Details of a quota that is used up."""
    violation = {"subject": f"metric:{metric}", "description": f"Quota limit of {metric} is exceeded."}
    return {"@type": f"{TYPE_URL}google.rpc.QuotaFailure", "violations": [violation]}


@dataclasses.dataclass(frozen=True)
class JobFault:
    """What happens to a job.

    Attributes:
        lose: instances of a batch job that come back neither as predictions nor as errors.
        repeat: instances that come back twice.
        fail: instances that come back as errors, each alone.
        fail_batches: calls of the model that fail with all of their instances, as a server's time-out makes them.
        preempt_after_checkpoints: its processes are killed when there are so many checkpoints in
            `AIP_CHECKPOINT_DIR`, and the job is restarted if its scheduling allows.
        checkpoint_file: pattern of the file that each checkpoint has one of.
        preemptions: how often that happens, each time after so many more.
        error: number of a `google.rpc.Code` and message with which it fails once it runs, without doing its work.
        lines: of its output, before that.
        never_ends: it runs until it is cancelled.
        never_starts: it is queued until it is cancelled.
    """

    lose: int = 0
    repeat: int = 0
    fail: int = 0
    fail_batches: int = 0
    preempt_after_checkpoints: int | None = None
    checkpoint_file: str = "*/state.json"
    preemptions: int = 1
    error: tuple[int, str] | None = None
    lines: tuple[str, ...] = ()
    never_ends: bool = False
    never_starts: bool = False


NO_FAULT = JobFault()
QUOTA_FAULT = JobFault(
    error=(8, "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus")
)
"""A job that was taken, and then found no quota."""
BATCH_QUOTA_FAULT = JobFault(
    error=(
        8,
        "Quota exhausted. Please reach out to ai-platform-unified-feedback@google.com for batch prediction quota increase.",
    )
)
"""https://cloud.google.com/vertex-ai/docs/general/troubleshooting#exceeded_batch_quota_error"""


@dataclasses.dataclass
class _Plan:
    left: int
    skip: int
    applies: Callable[..., bool]
    fault: object


class VertexFaults:
    """Faults to come.

    Attributes:
        calls: since the last `clear`, as `METHOD path`, path without version and with its escapes undone.
        happened: how many faults those calls and jobs had.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """From now on there are no faults, and calls are counted from 0."""
        with self._lock:
            self._of_calls: list[_Plan] = []
            self._of_jobs: list[_Plan] = []
            self.calls: list[str] = []
            self.happened = 0

    def on_call(self, method: str, path: str, fault: Fault, count: int = 1, skip: int = 0) -> None:
        """Lets the fault happen to the next `count` calls, after the next `skip` ones.

        Args:
            path: pattern that is found in the call's path, such as `customJobs$`.
        """

        def applies(call: Call) -> bool:
            return call.method == method and re.search(path, call.path) is not None

        with self._lock:
            self._of_calls.append(_Plan(count, skip, applies, fault))

    def on_job(self, kind: str, fault: JobFault, count: int = 1, skip: int = 0, display_name: str = "") -> None:
        """Lets the fault happen to the next `count` jobs of a kind, `custom` or `batch`, after the next `skip` ones.

        Args:
            display_name: pattern that is found in theirs.
        """

        def applies(job_kind: str, name: str) -> bool:
            return job_kind == kind and re.search(display_name, name) is not None

        with self._lock:
            self._of_jobs.append(_Plan(count, skip, applies, fault))

    def of_call(self, call: Call) -> Fault | None:
        """The fault of a call, which is then used up."""
        with self._lock:
            self.calls.append(f"{call.method} {call.path}")
            return self._take(self._of_calls, call)

    def of_job(self, kind: str, display_name: str) -> JobFault:
        """The fault of a job, which is then used up."""
        with self._lock:
            return self._take(self._of_jobs, kind, display_name) or NO_FAULT

    def _take(self, plans: list[_Plan], *subject: object):
        for plan in plans:
            if plan.left and plan.applies(*subject):
                if plan.skip:
                    plan.skip -= 1
                    continue
                plan.left -= 1
                self.happened += 1
                return plan.fault
        return None
