"""Generates synthetic rows with the columns of the public US natality table, for trials without any data at hand.

The shapes (how often what occurs, how weight follows gestation and plurality, how far weights spread around that) were
set by eye after a real sample. The rows are no data about anybody.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from configs.errors import JobError
from configs.sources import SampleSource
from transforms.examples.readers.rows import BATCH_ROWS, BadRow, Expected, sort_rows

GENERATOR_VERSION = 1
"""Counts up with every change of the rows that come out: it is part of the source's fingerprint."""

_PLURALITIES = np.array(["Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)"])
_PLURALITY_SHARES = [0.966, 0.0315, 0.002, 0.0005]
_MEAN_WEEKS = np.array([39.1, 35.8, 32.0, 30.0])
_WEIGHT_LOSS_POUNDS = np.array([0.0, 0.95, 1.3, 1.7])
_WEEKS = [17, 22, 24, 26, 28, 30, 32, 34, 36, 37, 38, 39, 40, 41, 47]
_WEIGHT_POUNDS = [0.9, 1.3, 1.5, 2.2, 3.3, 4.3, 5.1, 6.0, 6.5, 6.9, 7.24, 7.54, 7.72, 7.8, 7.6]
_MONTHS = 96
_SHARE_MISSING = 0.005


def read_block(source: SampleSource, block: int, expected: Expected) -> Iterator[pa.RecordBatch | BadRow]:
    """Generates the rows `[block * BATCH_ROWS, …)` of the sample.

    A block depends on the seed and its own number only, so a smaller sample is the beginning of a larger one.

    Raises:
        JobError: a column is asked for that the sample does not have.
    """
    columns = generate_natality(source.seed, block)
    for name in expected.columns:
        if name not in columns:
            raise JobError(f"source: the natality sample has no column {name!r}, only {', '.join(columns)}")
    rows = min(BATCH_ROWS, source.rows - block * BATCH_ROWS)
    arrays = {name: columns[name].slice(0, rows) for name in expected.columns}
    first = block * BATCH_ROWS + 1
    batch, bad_rows = sort_rows("sample natality", arrays, expected, np.arange(first, first + rows))
    yield from bad_rows
    yield batch


def generate_natality(seed: int, block: int) -> dict[str, pa.Array]:
    """Columns of one block, `[BATCH_ROWS]` each.

    `is_male` is Unknown for every second birth, as before an ultrasound; nobody has counted the children then, so such
    a row says no more than `Single(1)` or `Multiple(2+)`. A few ages and weeks are missing.
    """
    random = np.random.default_rng([seed, block])
    size = BATCH_ROWS
    is_male = random.random(size) < 0.512
    plurality = random.choice(len(_PLURALITIES), size, p=_PLURALITY_SHARES)
    age = np.clip(np.round(12 + random.gamma(6.3, 2.45, size)), 12, 50)
    spread = np.where(random.random(size) < 0.15, random.normal(-2.7, 4.2, size), random.normal(0.0, 1.5, size))
    weeks = np.clip(np.round(_MEAN_WEEKS[plurality] + spread), 17, 47)

    weight = np.interp(weeks, _WEEKS, _WEIGHT_POUNDS) - _WEIGHT_LOSS_POUNDS[plurality]
    weight += np.where(is_male, 0.12, -0.12) - 0.03 * np.clip(27 - age, 0, None) - 0.02 * np.clip(age - 38, 0, None)
    weight += random.normal(0.0, np.interp(weeks, [17, 25, 31, 36, 40], [0.2, 0.5, 1.1, 1.1, 0.95]))
    month = random.integers(0, _MONTHS, size)

    is_unknown = random.random(size) < 0.5
    sex = np.where(is_unknown, "Unknown", np.where(is_male, "True", "False"))
    counted = np.where(is_unknown & (plurality > 0), "Multiple(2+)", _PLURALITIES[plurality])
    return {
        "is_male": pa.array(sex),
        "mother_age": pa.array(age, mask=random.random(size) < _SHARE_MISSING),
        "plurality": pa.array(counted),
        "gestation_weeks": pa.array(weeks, mask=random.random(size) < _SHARE_MISSING),
        "weight_pounds": pa.array(np.clip(weight, 0.5, 18.0)),
        "hashmonth": pa.array(_scatter(month.astype(np.uint64))),
    }


def _scatter(values: np.ndarray) -> np.ndarray:
    """Positive int64 that look random, one for each value: splitmix64's finalizer (https://prng.di.unimi.it/splitmix64.c)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
