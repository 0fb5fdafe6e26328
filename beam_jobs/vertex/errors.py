"""What went wrong on Vertex AI, in one line that names the project, the resource and what to ask for."""

import contextlib
import re
from collections.abc import Iterator

import requests.exceptions
from google.api_core import exceptions

from beam_jobs.endpoints import LOGIN, credentials_problem
from beam_jobs.passing_faults import PASSING_FAULTS
from configs.errors import ForetableError, JobError

_ROLES = {
    "aiplatform.": "roles/aiplatform.user",
    "iam.": "roles/iam.serviceAccountUser",
    "storage.": "roles/storage.objectUser",
    "bigquery.": "roles/bigquery.dataEditor",
    "artifactregistry.": "roles/artifactregistry.reader",
}
"""The predefined role that has a permission, by how the permission starts."""
# Hosts such as storage.googleapis.com and proj.iam.gserviceaccount.com look alike.
_PERMISSION = re.compile(r"\b(?:aiplatform|iam|storage|bigquery|artifactregistry)\.(?![\w.]*\.com\b)\w+\.\w+\b")
_RESOURCE = re.compile(r"on resource '?(?://[\w.]+/)?([^' ]+?)[.']?(?: |$)")
_ACT_AS = re.compile(r"permission to act as service_account:?\s*'?([\w.@-]+[\w])", re.IGNORECASE)
_QUOTA = re.compile(r"\b[a-z]+\.googleapis\.com/[\w/-]+")
# https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3479: what is allotted, which waiting does not mend;
# a quota of calls a minute says `Quota exceeded for quota metric … per minute`, and waiting is its mend.
_ALLOTTED = re.compile(r"exceed quota limits|quotas? (?:is|are) exceeded", re.IGNORECASE)
_NO_MACHINES = re.compile(r"resources are insufficient|does not have enough resources|stockout", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:\d{3} )?(?:(?:GET|POST|PATCH|PUT|DELETE) https?://\S+: )?")


def is_passing(error: BaseException | None) -> bool:
    """Whether the same call may well succeed in a minute."""
    return isinstance(error, PASSING_FAULTS) and not _ALLOTTED.search(str(error))


def was_not_answered(error: ForetableError) -> bool:
    """Whether `explanation` made the error of a fault that may pass: the service has refused nothing."""
    return isinstance(error.__cause__, exceptions.RetryError) or is_passing(error.__cause__)


@contextlib.contextmanager
def explained(doing: str, permission: str, project: str, region: str) -> Iterator[None]:
    """Turns what Google's clients raise inside the block into one line of ours.

    Args:
        doing: what the block tries, such as `create custom job NAME`.
        permission: that it takes, for a refusal that does not name one.

    Raises:
        ForetableError: the service refused, or did not answer; `JobError` where the job file has to change.
    """
    try:
        yield
    except (exceptions.GoogleAPIError, requests.exceptions.RequestException) as error:
        raise explanation(error, doing, permission, project, region) from error
    except Exception as error:
        if (problem := credentials_problem(error)) is None:
            raise
        raise ForetableError(problem) from error


def explanation(error: BaseException, doing: str, permission: str, project: str, region: str) -> ForetableError:
    """One line on `error`, which a client raised, with the mend; arguments as of `explained`."""
    where = f"vertex in {project}, {region}: cannot {doing}"
    cause: BaseException = (error.cause if isinstance(error, exceptions.RetryError) else None) or error
    text = error_text(cause)
    if (problem := credentials_problem(cause)) is not None:
        return ForetableError(problem)
    if isinstance(cause, exceptions.Unauthorized):  # which gRPC calls Unauthenticated
        return ForetableError(f"{where}: the credentials are not accepted ({text}); {LOGIN}")
    if isinstance(cause, exceptions.TooManyRequests) or _ACT_AS.search(text):
        return ForetableError(f"{where}: {request_for(text, project, region)}")
    if isinstance(cause, exceptions.Forbidden):
        return ForetableError(f"{where}: {_denied(text, permission, project)}")
    if isinstance(cause, exceptions.NotFound):
        return ForetableError(f"{where}: not found ({text}); check vertex.project and vertex.region in the job file")
    if isinstance(cause, exceptions.BadRequest):
        return JobError(f"{where}: {text}; check vertex, model.training and precompute in the job file")
    if is_passing(cause) or isinstance(error, exceptions.RetryError):
        return ForetableError(f"{where}: no answer ({text}); run again: the same command attaches to what runs")
    return ForetableError(f"{where}: {text}")


def request_for(text: str, project: str, region: str) -> str:
    """What a service said about quota, machines or permissions, with what to request; else the text as it is."""
    if (account := _ACT_AS.search(text)) is not None:
        return f"no permission to act as {account[1]}; ask for roles/iam.serviceAccountUser on that service account"
    if _ALLOTTED.search(text) or "quota" in text.lower():
        metrics = ", ".join(dict.fromkeys(_QUOTA.findall(text))) or text
        page = f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
        return f"out of quota: {metrics} in {region}; request more on {page}, or ask for less in the job file"
    if _NO_MACHINES.search(text):
        return f"{text}; no such machine is free in {region}: run again later, or change machine_type or vertex.region"
    if _PERMISSION.search(text):
        return _denied(text, "", project)
    return text


def error_text(error: BaseException) -> str:
    """What the server said, in one line, without the address of the call."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    lines = [line for line in _PREFIX.sub("", str(message)).splitlines() if line.strip()]
    return " ".join(lines[0].split()).rstrip(".") if lines else type(error).__name__


def _denied(text: str, permission: str, project: str) -> str:
    if "SERVICE_DISABLED" in text or "has not been used" in text:
        return f"the API is off; run `gcloud services enable aiplatform.googleapis.com --project={project}`"
    named = _PERMISSION.search(text)
    missing = named[0] if named is not None else permission
    role = next((role for start, role in _ROLES.items() if missing.startswith(start)), "a role that has it")
    resource = _RESOURCE.search(text)
    on = resource[1] if resource is not None else f"projects/{project}"
    return f"permission {missing} is missing on {on}; ask for {role} ({text})"
