"""Wrong values and wrong SQL in a job file are found before anything is read or trained."""

import subprocess
import sys

import pytest
from conftest import NATALITY, ROOT

from beam_jobs.declarations import check_declarations
from configs.errors import JobError
from configs.loading import load_job


def problems(*overrides):
    with pytest.raises(JobError) as caught:
        check_declarations(load_job(NATALITY, overrides))
    return list(caught.value.problems)


@pytest.mark.parametrize("path", [NATALITY, f"{ROOT}/configs/chicago_taxi.yaml"])
def test_the_shipped_jobs_have_none(path):
    check_declarations(load_job(path))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("input_space.axes.plurality={values: []}", "input_space.axes.plurality: has no values; expected at least one"),
        (
            "input_space.axes.mother_age={values: [young]}",
            "input_space.axes.mother_age.values: 'young': expected a number for a feature of type float",
        ),
        ("input_space.axes.mother_age={range: [55, 12]}", "input_space.axes.mother_age.range: [55.0, 12.0]: expected the lower bound first"),
        (
            "input_space.axes.plurality={values: [Twins(2), Twins(2)]}",
            "input_space.axes.plurality: plurality='Twins(2)' is there 2 times; expected each row once",
        ),
        (
            "input_space.exclude=plural = 'Twins(2)'",
            "input_space.exclude: \"plural = 'Twins(2)'\": unknown column 'plural'; did you mean 'plurality'?",
        ),
        (
            "publish.contracts.a={not_null: weight_pounds, where: \"contians(plurality, 'win')\"}",
            "publish.contracts.a.where: \"contians(plurality, 'win')\": catalog Error: Scalar Function with name contians does not exist!",
        ),
        (
            "publish.contracts.a={not_null: weight_pounds, where: \"weight_pounds > 5 AND regexp_matches(plurality, '(')\"}",
            "publish.contracts.a.where: \"weight_pounds > 5 AND regexp_matches(plurality, '(')\": invalid Input Error: missing ): (",
        ),
        ("label.expression=weight_pounds *", "label.expression: 'weight_pounds *': syntax error at or near \")\""),
    ],
)  # fmt: skip
def test_each_is_one_line_with_its_path(override, expected):
    (line,) = problems(override)
    assert line == expected


@pytest.mark.parametrize("where", ["weight_pounds > 5 AND plurality LIKE 'T%'", "mother_age IS NULL", "1 = 1"])
def test_a_condition_that_works_has_none(where):
    check_declarations(load_job(NATALITY, [f'publish.contracts.a={{not_null: weight_pounds, where: "{where}"}}']))


def test_all_are_reported_at_once():
    assert len(problems("input_space.axes.plurality={values: []}", "input_space.exclude=nothing = 1")) == 2


def test_validate_says_so():
    command = [
        sys.executable,
        "-m",
        "beam_jobs",
        "validate",
        NATALITY,
        "--set",
        "input_space.axes.plurality={values: []}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: input_space.axes.plurality: has no values; expected at least one\n"
