"""Whatever BigQuery refuses comes as one line that names the resource and the mend; what passes by itself is retried."""

import json
import subprocess
import sys

import pytest
from bigquery_reader import Reader
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from nights import make_night, publish
from twins import faults

from beam_jobs.warehouses.bigquery.clients import is_transient
from beam_jobs.warehouses.bigquery.errors import explained
from configs.errors import ForetableError, JobError, RefusedError

CAP = "Query exceeded limit for bytes billed: 1000. 10485760 or higher required."


def api_error(kind, text, reason):
    return kind(text, errors=[{"reason": reason, "message": text}])


ERRORS = {
    "dataset": (
        exceptions.NotFound("404 POST https://b/q: Not found: Dataset p:d was not found in location EU"),
        JobError,
        "p.d: Not found: Dataset p:d was not found in location EU; set the location in the job file if it lies in "
        "another one, or make it: bq --location=EU mk --dataset p:d",
    ),
    "table": (
        exceptions.NotFound("Not found: Table p:my_dataset.t was not found in location US"),
        JobError,
        "p.d: Not found: Table p:my_dataset.t was not found in location US; check its name in the job file",
    ),
    "object": (
        exceptions.NotFound("Not found: URI gs://b/part-00000.parquet"),
        ForetableError,
        "p.d: Not found: URI gs://b/part-00000.parquet; run precompute again",
    ),
    "jobs": (
        exceptions.Forbidden(
            "403 POST https://b/q: Access Denied: Project p: User does not have bigquery.jobs.create permission in "
            "project p."
        ),
        ForetableError,
        "p.d: permission denied: bigquery.jobs.create (Access Denied: Project p: User does not have bigquery.jobs.create "
        "permission in project p); ask the project's owner for roles/bigquery.jobUser",
    ),
    "tables": (
        exceptions.Forbidden("Access Denied: Dataset p:d: Permission bigquery.tables.create denied on dataset p:d"),
        ForetableError,
        "ask the project's owner for roles/bigquery.dataEditor",
    ),
    "one without a line of its own": (
        exceptions.Forbidden("Access Denied: Dataset p:d: Permission bigquery.datasets.update denied on dataset p:d"),
        ForetableError,
        "permission denied: bigquery.datasets.update (Access Denied: Dataset p:d: Permission bigquery.datasets.update "
        "denied on dataset p:d); ask the project's owner for roles/bigquery.dataEditor",
    ),
    "objects": (
        exceptions.Forbidden("Access Denied: sa@p does not have storage.objects.get access to the object."),
        ForetableError,
        "ask the project's owner for roles/storage.objectViewer",
    ),
    "sessions": (
        exceptions.PermissionDenied("request failed: the user does not have 'bigquery.readsessions.create' permission"),
        ForetableError,
        "ask the project's owner for roles/bigquery.readSessionUser",
    ),
    "quota": (
        api_error(
            exceptions.Forbidden,
            "Quota exceeded: Your project exceeded quota for free query bytes scanned.",
            "quotaExceeded",
        ),
        ForetableError,
        "p.d: BigQuery refuses: Quota exceeded: Your project exceeded quota for free query bytes scanned",
    ),
    "cap": (
        api_error(exceptions.InternalServerError, CAP, "bytesBilledLimitExceeded"),
        JobError,
        "p.d: Query exceeded limit for bytes billed: 1000. 10485760 or higher required; raise maximum_bytes_billed in the "
        "job file, or ask for less",
    ),
    "credential": (
        RefreshError("Reauthentication is needed."),
        ForetableError,
        "the Google Cloud credentials have expired or been revoked (Reauthentication is needed); run `gcloud auth "
        "application-default login`",
    ),
    "unauthorized": (exceptions.Unauthorized("Invalid Credentials"), ForetableError, "does not accept the credentials"),
    "gave up": (
        exceptions.RetryError("Timeout of 300s exceeded", exceptions.ServiceUnavailable("try later")),
        ForetableError,
        "p.d: BigQuery gives no answer (try later); run again: what is finished is kept",
    ),
    "syntax": (
        exceptions.BadRequest('400 POST https://b/q: Syntax error: Unexpected "x"\n\nLocation: US\nJob ID: 1'),
        ForetableError,
        'p.d: BigQuery refuses: Syntax error: Unexpected "x"',
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_its_mend(name):
    error, kind, message = ERRORS[name]
    with pytest.raises(ForetableError) as raised, explained("p.d"):
        raise error
    assert type(raised.value) is kind
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_programs_own_error_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), explained("p.d"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (exceptions.ServiceUnavailable("x"), True),
        (exceptions.TooManyRequests("x"), True),
        (api_error(exceptions.Forbidden, "slow down", "rateLimitExceeded"), True),
        (ConnectionResetError(), True),
        (api_error(exceptions.Forbidden, "no more today", "quotaExceeded"), False),
        (api_error(exceptions.InternalServerError, CAP, "bytesBilledLimitExceeded"), False),
        (exceptions.BadRequest("x"), False),
        (exceptions.Conflict("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_passes_by_itself(error, passes):
    assert is_transient(error) == passes


def test_a_missing_dataset_is_found_before_anything_is_computed(cloud):
    reader = Reader(cloud)
    reader.warehouse.check()
    reader.client.delete_dataset(reader.warehouse.location)
    with pytest.raises(JobError) as error:
        reader.warehouse.check()
    project, dataset = cloud.bigquery.project, reader.dataset
    assert str(error.value) == (
        f"warehouse.dataset: {project}.{dataset} is not there; make it: "
        f"bq --location=US mk --dataset {project}:{dataset}"
    )


def test_a_dataset_elsewhere_is_found_before_anything_is_computed(cloud):
    with pytest.raises(JobError, match=r"warehouse.location: 'EU', but .* lies in US; set warehouse.location: US"):
        Reader(cloud, location="EU").warehouse.check()


def through(cloud, weather, address):
    """A reader whose warehouse goes through a proxy with that weather."""
    return Reader(cloud, cloud.endpoints.model_copy(update={"bigquery": address}))


def test_a_denied_permission_names_its_role(cloud, tmp_path):
    weather = faults.Faults()
    text = "Access Denied: Project proj: User does not have bigquery.jobs.create permission in project proj."
    with weather.before(cloud.bigquery.endpoint) as (address,):
        reader = through(cloud, weather, address)
        weather.start(faults.from_call(0, faults.refusal(403, text)))
        with pytest.raises(ForetableError, match=r"permission denied: bigquery.jobs.create .* roles/bigquery.jobUser"):
            reader.warehouse.check()
        with pytest.raises(ForetableError, match="permission denied"):
            publish(reader.warehouse, make_night(tmp_path))


def test_neither_library_is_imported_for_the_other():
    program = (
        "import json, sys, beam_jobs.warehouses.{}\n"
        "names = ('apache_beam', 'tensorflow', 'google.cloud.bigquery')\n"
        "print(json.dumps([name for name in names if name in sys.modules]))"
    )
    found = {
        name: json.loads(subprocess.check_output([sys.executable, "-c", program.format(name)]))
        for name in ("duckdb.warehouse", "bigquery.warehouse", "bigquery.clients")
    }
    cloud = ["google.cloud.bigquery"]
    assert found == {"duckdb.warehouse": [], "bigquery.warehouse": cloud, "bigquery.clients": cloud}


def test_a_refused_step_says_no_more_than_its_line(cloud, tmp_path):
    """A load that BigQuery cannot read: the shard is not what its size says."""
    night = make_night(tmp_path, shard_blocks=8)
    (path,) = (tmp_path / "natality").rglob("part-*.parquet")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ForetableError) as error:
        Reader(cloud).warehouse.load(night)
    assert not isinstance(error.value, RefusedError)
    assert "\n" not in str(error.value)
