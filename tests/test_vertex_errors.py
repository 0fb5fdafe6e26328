"""What goes wrong on Vertex AI is one line that says what to ask for."""

import subprocess
import sys

import pytest
import requests.exceptions
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from beam_jobs.vertex.errors import explanation, is_passing, request_for
from configs.errors import ForetableError, JobError

WHERE = "vertex in proj, us-central1: cannot create custom job J"


QUOTAS = "https://console.cloud.google.com/iam-admin/quotas?project=proj"


CPUS = "aiplatform.googleapis.com/custom_model_training_cpus"


DENIED = (
    "Permission 'aiplatform.customJobs.create' denied on resource"
    " '//aiplatform.googleapis.com/projects/proj/locations/us-central1' (or it may not exist)."
)


RATE = (
    "Quota exceeded for quota metric 'Resource management requests' and limit 'Resource management requests per"
    " minute per region' of service 'aiplatform.googleapis.com' for consumer 'projects/1'."
)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (
            exceptions.PermissionDenied(DENIED),
            ForetableError,
            f"{WHERE}: permission aiplatform.customJobs.create is missing on projects/proj/locations/us-central1;"
            f" ask for roles/aiplatform.user ({DENIED[:-1]})",
        ),
        (
            exceptions.Forbidden("POST https://us-central1-aiplatform.googleapis.com/v1/x: Forbidden."),
            ForetableError,
            f"{WHERE}: permission aiplatform.customJobs.create is missing on projects/proj;"
            " ask for roles/aiplatform.user (Forbidden)",
        ),
        (
            exceptions.Forbidden("Vertex AI API has not been used in project 1 before or it is disabled."),
            ForetableError,
            f"{WHERE}: the API is off; run `gcloud services enable aiplatform.googleapis.com --project=proj`",
        ),
        (
            exceptions.InvalidArgument(
                "You do not have permission to act as service_account: sa@proj.iam.gserviceaccount.com."
                " (or it may not exist)."
            ),
            ForetableError,
            f"{WHERE}: no permission to act as sa@proj.iam.gserviceaccount.com;"
            " ask for roles/iam.serviceAccountUser on that service account",
        ),
        (
            exceptions.ResourceExhausted(f"The following quota metrics exceed quota limits: {CPUS},{CPUS[:-4]}gpus"),
            ForetableError,
            f"{WHERE}: out of quota: {CPUS}, {CPUS[:-4]}gpus in us-central1; request more on {QUOTAS},"
            " or ask for less in the job file",
        ),
        (
            exceptions.TooManyRequests(RATE),
            ForetableError,
            f"{WHERE}: out of quota: {RATE[:-1]} in us-central1; request more on {QUOTAS},"
            " or ask for less in the job file",
        ),
        (
            exceptions.RetryError("timeout", exceptions.ServiceUnavailable("The service is away.\nTry later.")),
            ForetableError,
            f"{WHERE}: no answer (The service is away); run again: the same command attaches to what runs",
        ),
        (
            requests.exceptions.ConnectionError("refused"),
            ForetableError,
            f"{WHERE}: no answer (refused); run again: the same command attaches to what runs",
        ),
        (
            exceptions.NotFound("no such project"),
            ForetableError,
            f"{WHERE}: not found (no such project); check vertex.project and vertex.region in the job file",
        ),
        (
            exceptions.BadRequest('Machine type "n9" is not supported.'),
            JobError,
            f'{WHERE}: Machine type "n9" is not supported; check vertex, model.training and precompute in the job file',
        ),
        (
            exceptions.Unauthenticated("who?"),
            ForetableError,
            f"{WHERE}: the credentials are not accepted (who?); run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
        (
            DefaultCredentialsError("none found"),
            ForetableError,
            "no Google Cloud credentials (none found); run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
        (
            exceptions.RetryError("timeout", RefreshError("revoked")),
            ForetableError,
            "the Google Cloud credentials have expired or been revoked (revoked);"
            " run `gcloud auth application-default login`, or set"
            " GOOGLE_APPLICATION_CREDENTIALS to a service account's key",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_wrong_is_one_line_with_what_to_ask_for(error, kind, line):
    found = explanation(error, "create custom job J", "aiplatform.customJobs.create", "proj", "us-central1")
    assert (type(found), str(found)) == (kind, line)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.ServiceUnavailable("x"), True),
        (exceptions.DeadlineExceeded("x"), True),
        (exceptions.InternalServerError("x"), True),
        (requests.exceptions.ReadTimeout("x"), True),
        (exceptions.TooManyRequests(RATE), True),
        (exceptions.ResourceExhausted(f"The following quota metrics exceed quota limits: {CPUS}"), False),
        (exceptions.PermissionDenied("x"), False),
        (exceptions.InvalidArgument("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_passes_by_itself(error, expected):
    assert is_passing(error) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Quota exhausted. Please reach out to ai-platform-unified-feedback@google.com for quota increase",
            "out of quota: Quota exhausted. Please reach out to ai-platform-unified-feedback@google.com for quota"
            f" increase in us-central1; request more on {QUOTAS}, or ask for less in the job file",
        ),
        (
            "Resources are insufficient in region: us-central1",
            "Resources are insufficient in region: us-central1; no such machine is free in us-central1:"
            " run again later, or change machine_type or vertex.region",
        ),
        (
            "sa@proj does not have storage.objects.get access. Permission 'storage.objects.get' denied on resource"
            " 'projects/_/buckets/bkt' (or it may not exist)",
            "permission storage.objects.get is missing on projects/_/buckets/bkt; ask for roles/storage.objectUser"
            " (sa@proj does not have storage.objects.get access. Permission 'storage.objects.get' denied on resource"
            " 'projects/_/buckets/bkt' (or it may not exist))",
        ),
        (
            "GET https://storage.googleapis.com/storage/v1/b/bkt: sa@proj.iam.gserviceaccount.com does not have"
            " storage.objects.list access",
            "permission storage.objects.list is missing on projects/proj; ask for roles/storage.objectUser"
            " (GET https://storage.googleapis.com/storage/v1/b/bkt: sa@proj.iam.gserviceaccount.com does not have"
            " storage.objects.list access)",
        ),
        ("The replica workerpool0-0 exited with a non-zero status of 1", None),
        ("could not read https://storage.googleapis.com/bkt/model: broken pipe", None),
        ("see https://storage.cloud.google.com/bkt/log.txt", None),
        ("the job of sa@proj.iam.gserviceaccount.com has ended", None),
        ("", None),
    ],
    ids=[
        "quota of batch prediction",
        "no machines",
        "permission",
        "permission after a host",
        "our own failure",
        "host",
        "console",
        "account",
        "none",
    ],
)
def test_why_a_job_failed_says_what_to_request(text, expected):
    assert request_for(text, "proj", "us-central1") == (text if expected is None else expected)


def test_clients_are_not_imported_before_they_are_asked_for():
    """They take seconds."""
    modules = "beam_jobs.cli, beam_jobs.vertex.training"
    ask = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('google.cloud.aiplatform')])"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "[]\n"
