"""What goes wrong on Google Cloud, given to the whole command: one line that names the resource and the mend."""

import re

import pytest
import typer.testing
from cloud_nights import CloudWorkspace
from conftest import FIRST_DATE, NATALITY, SMALL
from twins.faults import Faults, from_call, refusal
from twins.proxy import Reply

from beam_jobs.cli import app

COLUMNS = "is_male STRING, mother_age FLOAT64, plurality STRING, gestation_weeks FLOAT64, hashmonth INT64"
BIRTHS = (
    "SELECT 'True' AS is_male, 29.0 AS mother_age, 'Single(1)' AS plurality, 39.0 AS gestation_weeks, 1 AS hashmonth"
)


@pytest.fixture
def error_of(monkeypatch, capfd):
    """Runs a command, which must fail, and gives its exit code and its one error line."""
    for name in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # what the command sets goes when the test ends

    def run(workspace, *settings, command="run"):
        sets = [word for setting in (*workspace.overrides, *settings) for word in ("--set", setting)]
        arguments = [command, NATALITY, "--date", str(FIRST_DATE), *sets]
        result = typer.testing.CliRunner().invoke(app, arguments)
        said = capfd.readouterr().err
        (line,) = re.findall(r"^error: (.*)$", said, re.MULTILINE)
        assert "Traceback" not in said
        return result.exit_code, line

    return run


@pytest.fixture
def workspace(cloud):
    return CloudWorkspace(cloud, *SMALL)


def source(workspace, **settings):
    """The override that has the job read from BigQuery."""
    flow = ", ".join(f'{name}: "{value}"' for name, value in settings.items())
    return f"source={{kind: bigquery, project: proj, {flow}}}"


def test_no_such_dataset(cloud, error_of):
    code, line = error_of(CloudWorkspace(cloud, *SMALL, dataset="nowhere"))
    assert code == 2
    assert line == ("warehouse.dataset: proj.nowhere is not there; make it: bq --location=US mk --dataset proj:nowhere")


def test_a_dataset_in_another_location(cloud, error_of):
    workspace = CloudWorkspace(cloud, *SMALL, dataset=cloud.bigquery.new_dataset("EU"))
    code, line = error_of(workspace)
    assert code == 2
    assert line.startswith(
        f"warehouse.location: 'US', but proj.{workspace.dataset} lies in EU; set warehouse.location: EU"
    )


def test_no_such_source(workspace, error_of):
    code, line = error_of(workspace, source(workspace, table="proj.nowhere.births"), command="prepare")
    assert code in (2, 3)
    assert "proj.nowhere.births" in line
    assert "nowhere" in line.partition("births")[2], "the dataset is what is missing"


def test_a_source_whose_column_has_changed_its_type(workspace, error_of):
    workspace.select(f"CREATE TABLE {{d}}.births ({COLUMNS}, weight_pounds STRING)")
    table = f"proj.{workspace.dataset}.births"
    code, line = error_of(workspace, source(workspace, table=table), command="prepare")
    assert code == 3
    assert line == f"{table}: column 'weight_pounds' is STRING; expected a column of numbers for type float"


def test_a_query_that_answers_nothing(workspace, error_of):
    query = f"SELECT *, 7.5 AS weight_pounds FROM ({BIRTHS}) WHERE mother_age < 0"
    code, line = error_of(workspace, source(workspace, query=query), command="prepare")
    assert code == 3
    assert line.startswith('query "SELECT *, 7.5 AS weight_pounds')
    assert line.endswith("gives no rows; expected at least one")


@pytest.mark.parametrize(
    ("server", "path", "fault", "expected"),
    [
        (
            "bigquery",
            "/bigquery/v2/projects/proj/datasets/",
            refusal(403, "Access Denied: Dataset proj:d: Permission bigquery.datasets.get denied on dataset proj:d"),
            ("permission denied: bigquery.datasets.get", "roles/bigquery.dataViewer"),
        ),
        (
            "bigquery",
            "/bigquery/v2/projects/proj/jobs",
            refusal(
                403, "Access Denied: Project proj: User does not have bigquery.jobs.create permission in project proj."
            ),
            ("permission denied: bigquery.jobs.create", "roles/bigquery.jobUser"),
        ),
        (
            "storage",
            "/upload/storage/v1/b/bkt/o",
            refusal(403, "sa@proj.iam.gserviceaccount.com does not have storage.objects.create access to the object."),
            ("gs://bkt/", "storage.objects.create", "roles/storage.objectUser"),
        ),
        (
            "bigquery",
            "/bigquery/v2/",
            refusal(401, "Request had invalid authentication credentials."),
            ("credentials", "gcloud auth application-default login"),
        ),
        (
            "storage",
            "/",
            refusal(401, "Invalid Credentials"),
            ("gs://bkt/", "credentials", "gcloud auth application-default login"),
        ),
    ],
    ids=["dataset_denied", "jobs_denied", "objects_denied", "expired_for_bigquery", "expired_for_storage"],
)
def test_a_refusal_of_the_server(cloud, error_of, server, path, fault, expected):
    def refuse(request, forward) -> Reply:
        return fault(request, forward) if request.resource.startswith(path) else forward(request)

    weather = Faults()
    weather.start(from_call(0, refuse))
    with weather.before(getattr(cloud, server).endpoint) as (address,):
        code, line = error_of(CloudWorkspace(cloud, *SMALL, **{server: address}))
    assert code == 5
    for words in expected:
        assert words in line
