"""The synthetic sample: the same rows always, and shaped like births."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from configs.errors import JobError
from configs.sources import SampleSource
from transforms.examples.readers.natality_sample import GENERATOR_VERSION, generate_natality, read_block
from transforms.examples.readers.rows import BATCH_ROWS, Expected
from transforms.examples.reading import read_table, reader_of

COLUMNS = {
    "is_male": "string",
    "mother_age": "float",
    "plurality": "string",
    "gestation_weeks": "float",
    "weight_pounds": "float",
    "hashmonth": "int",
}


@pytest.fixture(scope="module")
def table():
    return read_table(reader_of(SampleSource(kind="sample", rows=100_000)), COLUMNS)


def test_rows_are_the_same_as_ever(table):
    """If this fails, the rows have changed: raise GENERATOR_VERSION, or runs resume on another night's examples."""
    text = "\n".join(
        f"{row.values()}" for row in table.slice(0, 1000).select(["is_male", "mother_age", "hashmonth"]).to_pylist()
    )
    assert (GENERATOR_VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (1, "0767bf11a4ac6720")


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(table):
    smaller = read_table(reader_of(SampleSource(kind="sample", rows=70_000)), COLUMNS)
    assert smaller.combine_chunks().equals(table.slice(0, 70_000).combine_chunks())
    other_seed = read_table(reader_of(SampleSource(kind="sample", rows=10, seed=1)), COLUMNS)
    assert other_seed.to_pylist() != table.slice(0, 10).to_pylist()
    assert generate_natality(0, 0)["hashmonth"] != generate_natality(0, 1)["hashmonth"]


def test_unknown_sex_comes_with_children_nobody_has_counted(table):
    pairs = {tuple(row.values()) for row in table.select(["is_male", "plurality"]).to_pylist()}
    counted = {
        (sex, word) for sex in ("True", "False") for word in ("Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)")
    }
    assert pairs == counted | {("Unknown", "Single(1)"), ("Unknown", "Multiple(2+)")}


def test_values_are_plausible(table):
    assert pc.min_max(table["mother_age"]).as_py() == {"min": 13, "max": 50}
    assert pc.min_max(table["gestation_weeks"]).as_py() == {"min": 19, "max": 47}
    assert pc.min_max(table["hashmonth"])["min"].as_py() >= 0
    for name in ("mother_age", "gestation_weeks"):
        assert table[name].null_count == pytest.approx(500, rel=0.2)
        assert pc.all(pc.equal(pc.floor(table[name]), table[name])).as_py()
    assert sum(table[name].null_count for name in ("is_male", "plurality", "weight_pounds", "hashmonth")) == 0


def test_weight_can_be_learned_but_not_wholly(table):
    """A constant is off by about a pound, the mean of the rows alike by about four fifths of it."""
    weight = table["weight_pounds"].to_numpy()
    constant = np.abs(weight - np.median(weight)).mean()
    alike = table.group_by(["is_male", "plurality", "mother_age", "gestation_weeks"], use_threads=False)
    alike = table.join(alike.aggregate([("weight_pounds", "mean")]), alike.keys)
    best = pc.mean(pc.abs(pc.subtract(alike["weight_pounds"], alike["weight_pounds_mean"]))).as_py()
    assert constant == pytest.approx(0.98, abs=0.04)
    assert best == pytest.approx(0.79, abs=0.03)


def test_reads_blocks_of_the_columns_asked_for():
    source = SampleSource(kind="sample", rows=BATCH_ROWS + 3)
    (first,), (second,) = (list(read_block(source, block, Expected({"plurality": "string"}))) for block in (0, 1))
    assert (first.num_rows, second.num_rows) == (BATCH_ROWS, 3)
    assert second.schema == pa.schema([("plurality", pa.string())])


def test_an_unknown_column_is_named():
    with pytest.raises(JobError, match="source: the natality sample has no column 'weight', only is_male, mother_age"):
        list(read_block(SampleSource(kind="sample"), 0, Expected({"weight": "float"})))
