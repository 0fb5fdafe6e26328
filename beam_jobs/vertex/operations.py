"""What changes Vertex AI: made once in spite of passing faults, and waited for, by whichever process comes for it."""

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from google.api_core.exceptions import GoogleAPIError, NotFound
from google.api_core.future import polling
from requests.exceptions import RequestException

from beam_jobs.vertex import service as vertex_service
from beam_jobs.vertex.errors import is_passing
from beam_jobs.vertex.service import idempotent
from configs.errors import ForetableError

FIRST_LOOK_SECONDS = 1.0
"""What a change is given to show, before it counts as one that did not arrive; doubled at each further look."""
_LONGEST_LOOK_SECONDS = 30.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.25, 10.0
T = TypeVar("T")


def make_once(call: Callable[[], T], look: Callable[[], T | None], mended_by_looking: tuple[type, ...] = ()) -> T:
    """Makes a change that must not be made twice: after a fault whose call may have arrived, it is looked for first.

    Args:
        look: what the change made, or None where it did not.
        mended_by_looking: further faults after which the call may be made again.

    Raises:
        GoogleAPIError: the call is refused, or has not got through for minutes; or `RequestException`.
    """
    deadline, pause = time.monotonic() + vertex_service.RETRY_SECONDS, FIRST_LOOK_SECONDS
    while True:
        try:
            return call()
        except (GoogleAPIError, RequestException) as error:
            may_pass = is_passing(error) or isinstance(error, mended_by_looking)
            if not may_pass or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        if (made := look()) is not None:
            return made
        pause = min(2 * pause, _LONGEST_LOOK_SECONDS)


def result_of(operation: Any, doing: str, seconds: float) -> Any:
    """What the operation comes to.

    Args:
        doing: what it does, such as `deploy version 3`.
        seconds: to wait for it.

    Raises:
        ForetableError: the time is over; the operation goes on.
        GoogleAPICallError: it failed.
    """
    pauses = polling.DEFAULT_POLLING.with_delay(_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS, 1.5)
    try:
        return operation.result(timeout=seconds, retry=idempotent()["retry"], polling=pauses)
    except concurrent.futures.TimeoutError as error:
        raise ForetableError(
            f"vertex: {doing}: not done after {seconds / 60:,.0f} minutes; it goes on as {operation.operation.name},"
            " and the same command waits for it again"
        ) from error


def wait_for_pending(client: Any, resource_name: str, doing: str, seconds: float) -> None:
    """Waits until no operation on a resource runs any more, such as one that another process started.

    Args:
        client: a GAPIC client.

    Raises:
        ForetableError: the time is over.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_POLL_SECONDS
    while True:
        try:
            running = [operation.name for operation in operations_on(client, resource_name) if not operation.done]
        except NotFound:  # nor is there the resource
            return
        if not running:
            return
        if time.monotonic() > deadline:
            raise ForetableError(f"vertex: {doing}: {running[0]} still runs after {seconds / 60:,.0f} minutes")
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)


def operations_on(client: Any, resource_name: str) -> Iterator[Any]:
    """All operations on a resource, done or not; Google's client gives a page a call here."""
    token = ""
    while True:
        page = client.list_operations({"name": resource_name, "page_token": token}, **idempotent())
        yield from page.operations
        token = page.next_page_token
        if not token:
            return
