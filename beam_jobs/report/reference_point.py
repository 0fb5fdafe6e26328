"""The point of the published table that is most like a typical example: from there one feature at a time is varied."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.published_axes import PublishedAxis, interval_text
from beam_jobs.report.feature_statistics import FeatureStatistics
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import value_text
from beam_jobs.warehouses.base import Value


@dataclasses.dataclass(frozen=True)
class TypicalRow:
    """A row of an axis.

    Attributes:
        keys: its key columns.
        text: as a reader would say it.
        source: what it is: the examples' median or most frequent value, or the middle of the axis.
    """

    keys: Mapping[str, Value]
    text: str
    source: str


def typical_row(subject: Subject, axis: PublishedAxis) -> TypicalRow:
    """The axis' row nearest to the train split's median, or its most frequent word; else the one in its middle."""
    train = subject.statistics.get("train", {})
    names = axis.asked
    known = [train[name] for name in names if name in train and train[name].count]
    index, source = None, "middle of its axis"
    if axis.intervals_of is not None:
        median = known[0].median if known else None
        index = axis.find_interval(median) if median is not None else None
        source = "interval of the median" if index is not None else source
    elif len(known) == len(names):
        index = _nearest_row(axis.table, known)
        source = _source(known)
    if index is None:
        index, source = _middle(axis.table), "middle of its axis"
    keys = axis.table.slice(index, 1).to_pylist()[0]
    return TypicalRow(keys, row_text(axis, keys), source)


def row_text(axis: PublishedAxis, keys: Mapping[str, Any]) -> str:
    """An axis' row in words."""
    if axis.intervals_of is None:
        return " · ".join(value_text(keys[name]) for name in axis.asked)
    low, high, *missing = keys.values()
    return "missing" if missing and missing[0] else interval_text(low, high)


def _source(known: list[FeatureStatistics]) -> str:
    if len(known) > 1:
        return "most like the typical example"
    return "most frequent" if known[0].is_text else "median"


def _nearest_row(rows: pa.Table, known: list[FeatureStatistics]) -> int | None:
    """The row that is least away from the typical values; a word that is another counts as far away."""
    distance = np.zeros(rows.num_rows)
    for stats in known:
        column = rows[stats.name].to_pylist()
        if stats.is_text:
            ranks = {word: rank for rank, (word, _) in enumerate(stats.words)}
            distance += np.array([ranks.get(str(value), len(ranks)) for value in column], float)
        else:
            numbers = np.array([np.nan if value is None else value for value in column], float)
            spread = ((stats.maximum or 0) - (stats.minimum or 0)) or 1.0
            distance += np.abs(numbers - (stats.median or 0.0)) / spread
    return int(np.nanargmin(distance)) if np.isfinite(distance).any() else None


def _middle(rows: pa.Table) -> int:
    """The middle of a number's values, and the first of words; never the missing value where there is another."""
    column = rows[rows.column_names[0]]
    values = column.to_pylist()
    known = [index for index, value in enumerate(values) if value is not None]
    if not known:
        return 0
    if pa.types.is_string(column.type):
        return known[0]
    return sorted(known, key=lambda index: values[index])[len(known) // 2]
