"""Real rows in which something went wrong, by their statistics: every fault is named, and a good night raises nothing."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from planted_faults import replaced, swapped, third_missing, without

from benchmarks.false_alarms import compare_nights, describe, jobs_of, split_and_compare
from transforms.monitoring.comparison import same_examples

DATA = pathlib.Path(__file__).parent.parent.parent / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs the real data in ../shared/data")


@pytest.fixture(scope="module")
def examples():
    """By job, the job and two halves of its rows."""
    found = {}
    for name, job, table in jobs_of(DATA):
        order = pa.array(np.random.default_rng(0).permutation(table.num_rows))
        half = table.num_rows // 2
        found[name] = job, table.take(order[:half]), table.take(order[half:])
    return found


def in_other_units(name, factor):
    return lambda table: replaced(table, name, pc.multiply(table[name], factor))


OTHER_UNIT = ["out of range", "high drift"]
MISSING = ["missing too often", "high drift"]
LABEL = "label goes otherwise with values"


@pytest.mark.parametrize(
    ("job_file", "column", "plant", "expected"),
    [
        ("natality", "weight_pounds", in_other_units("weight_pounds", 453.59237), OTHER_UNIT),
        ("chicago_taxi", "trip_miles", in_other_units("trip_miles", 1609.344), OTHER_UNIT),
        ("natality", "is_male", swapped("is_male", "True", "False"), [LABEL]),
        ("natality", "plurality", swapped("plurality", "Single(1)", "Twins(2)"), ["high drift", LABEL]),
        ("chicago_taxi", "payment_type", swapped("payment_type", "Cash", "Credit Card"), ["high drift", LABEL]),
        # As many rides within a fiftieth, so that only their tips tell.
        ("chicago_taxi", "pickup_community_area", swapped("pickup_community_area", 6, 76), [LABEL]),
        ("natality", "mother_age", third_missing("mother_age"), MISSING),
        ("chicago_taxi", "trip_start_hour", third_missing("trip_start_hour"), MISSING),
        ("natality", "plurality", without("plurality", "Twins(2)"), ["values gone"]),
        ("chicago_taxi", "trip_start_hour", without("trip_start_hour", 12), ["values gone"]),
    ],
    ids=[
        "pounds in grams",
        "miles in metres",
        "sexes swapped",
        "pluralities swapped",
        "payments swapped",
        "areas swapped",
        "ages missing",
        "hours missing",
        "no twins",
        "no noon",
    ],
)
def test_planted_faults_are_named(examples, job_file, column, plant, expected):
    job, before, tonight = examples[job_file]
    lines, _ = compare_nights(job, before, plant(tonight))
    assert lines == [f"{column}: {short}" for short in expected]


@pytest.mark.parametrize("job_file", ["natality", "chicago_taxi"])
def test_a_copy_of_yesterday_is_known_however_it_is_bundled(examples, job_file):
    job, before, tonight = examples[job_file]
    order = pa.array(np.random.default_rng(1).permutation(before.num_rows))
    assert same_examples(describe(job, before), describe(job, before.take(order)))
    assert not same_examples(describe(job, before), describe(job, tonight))


@pytest.mark.parametrize("night", [None, 1000, 50], ids=["half", "1,000 rows", "50 rows"])
@pytest.mark.parametrize("job_file", ["natality", "chicago_taxi"])
def test_a_random_split_raises_no_alarm(examples, job_file, night):
    job, before, tonight = examples[job_file]
    if night is None:
        assert compare_nights(job, before, tonight)[0] == []
        return
    table, generator = pa.concat_tables([before, tonight]), np.random.default_rng(2)
    assert split_and_compare(job, table, table.num_rows - night, night, generator)[0] == []
