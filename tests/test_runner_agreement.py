"""A job on Dataflow keeps what its workers read and write where they can reach it."""

import pytest
from conftest import NATALITY

from configs.errors import JobError
from configs.loading import load_job

CLOUD = (
    "workspace=gs://bkt/ws",
    "warehouse={kind: bigquery, project: p, dataset: d}",
    "runner={kind: dataflow, project: p, region: r, sdk_container_image: i}",
)


def test_a_job_whose_workers_find_everything():
    assert load_job(NATALITY, CLOUD).runner.kind == "dataflow"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("workspace=local", "workspace: 'local': expected gs://bucket/folder beside runner: dataflow"),
        (
            "source={kind: csv, files: [gs://bkt/a.csv, b.csv]}",
            "source.files: 'b.csv': expected gs:// files beside runner: dataflow",
        ),
        (
            "split={eval: {kind: parquet, files: e.parquet}}",
            "split.eval.files: 'e.parquet': expected gs:// files beside runner: dataflow",
        ),
    ],
)
def test_what_workers_could_not_find_is_one_line(override, problem):
    with pytest.raises(JobError) as error:
        load_job(NATALITY, [*CLOUD, override])
    assert problem in str(error.value)
    assert "Dataflow's workers do not see this machine's files" in str(error.value)


@pytest.mark.parametrize(
    "runner",
    [
        "{kind: dataflow, project: p, region: r}",
        "{kind: dataflow, project: p, region: r, sdk_container_image: i, setup_file: setup.py}",
    ],
    ids=["neither", "both"],
)
def test_workers_get_the_code_in_one_way(runner):
    with pytest.raises(JobError, match="expected sdk_container_image or setup_file, and not both"):
        load_job(NATALITY, [*CLOUD, f"runner={runner}"])
