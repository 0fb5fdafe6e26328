"""Thresholds on skew and drift are for columns that are there, and a job with them reads back as it is."""

import pytest
from conftest import NATALITY

from configs.errors import JobError
from configs.loading import load_job, parse_job
from configs.monitoring import Drift

TRAFFIC = "traffic={kind: csv, files: asked.csv}"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["drift.features={weigh_pounds: 0.2}"],
            "drift.features: 'weigh_pounds': expected a feature, column or label; did you mean 'weight_pounds'?",
        ),
        (
            [TRAFFIC, "skew.features={weight_pounds: 0.2}"],
            "skew.features: 'weight_pounds': expected a feature (is_male, mother_age, plurality, gestation_weeks)",
        ),
        (["drift.features={hashmonth: 0.2}"], "drift.features: 'hashmonth': expected a feature, column or label ("),
        (["skew.threshold=0.5"], "skew: expected a traffic source to measure it on"),
    ],
    ids=["no such column", "the traffic has no label", "a column that only splits", "skew of nothing"],
)
def test_what_does_not_fit_is_one_line(overrides, problem):
    with pytest.raises(JobError) as raised:
        load_job(NATALITY, overrides)
    (line,) = raised.value.problems
    assert problem in line


def test_a_job_with_a_schema_reads_back_as_it_is():
    job = load_job(NATALITY, ["schema=births.pbtxt", TRAFFIC, "drift={features: {weight_pounds: 0.2}, nights: 7}"])
    assert job.schema_file == "births.pbtxt"
    assert parse_job(job.model_dump(mode="json")) == job
    assert job.drift.threshold_of("weight_pounds") == 0.2
    assert job.drift.threshold_of("is_male") == Drift().threshold == 0.1


def test_columns_that_only_split_are_not_compared():
    assert load_job(NATALITY).compared_columns == (
        "is_male", "mother_age", "plurality", "gestation_weeks", "weight_pounds",
    )  # fmt: skip
