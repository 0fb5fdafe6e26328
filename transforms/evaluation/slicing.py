"""Slices of the eval split: rows that agree on some raw columns, and the metrics of each slice.

A slice specification is a tuple of columns; each combination of their values is a slice, and `()` is the whole split.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Value = str | int | float | None

_PLAIN = re.compile(r"[^\s\",=][^\",=]*")


@dataclasses.dataclass(frozen=True)
class SliceKey:
    """Names one slice.

    Attributes:
        columns: the specification.
        values: one for each column; None is the missing value.
    """

    columns: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        """`is_male=True,plurality=Twins(2)`, or `overall`; different slices have different texts."""
        return ",".join(f"{c}={_text(v)}" for c, v in zip(self.columns, self.values, strict=True)) or "overall"

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Orders the slices of one specification by value, missing ones last."""
        return tuple((value is None, 0 if value is None else value) for value in self.values)


@dataclasses.dataclass(frozen=True)
class SliceMetrics:
    """The metrics of one slice.

    Attributes:
        slice: its text, as `SliceKey` writes it.
        columns: its columns' values; empty for the whole split.
        metrics: by name; None where a metric is undefined, such as the auc of rows of one class.
    """

    slice: str
    columns: dict[str, Value]
    metrics: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class ModelMetrics:
    """A model's metrics on every slice.

    Attributes:
        slices: in the order of the specifications, then by value.
    """

    slices: tuple[SliceMetrics, ...]

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "ModelMetrics":
        """Reads back what `dataclasses.asdict` gave."""
        return cls(tuple(SliceMetrics(**entry) for entry in tree["slices"]))

    @classmethod
    def from_slices(
        cls, metrics: Mapping[SliceKey, dict[str, float | None]], specifications: Sequence[tuple[str, ...]]
    ) -> "ModelMetrics":
        """Puts the metrics of slices in order."""
        order = {specification: place for place, specification in enumerate(specifications)}
        keys = sorted(metrics, key=lambda key: (order[key.columns], key.sort_key))
        slices = (SliceMetrics(str(key), dict(zip(key.columns, key.values, strict=True)), metrics[key]) for key in keys)
        return cls(tuple(slices))

    def of_slice(self, text: str) -> SliceMetrics | None:
        """The slice of that text, or None if it was not seen."""
        return next((entry for entry in self.slices if entry.slice == text), None)

    def of_specification(self, columns: Sequence[str]) -> tuple[SliceMetrics, ...]:
        """Every slice seen of one specification."""
        return tuple(entry for entry in self.slices if tuple(entry.columns) == tuple(columns))


def assign_slices(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> tuple[list[SliceKey], np.ndarray]:
    """Tells which slice of the specification `columns` each row is in.

    Returns:
        The slices that have rows in the batch, each once, and for each row the index of its slice, `[num_rows]`.
    """
    ids = np.zeros(batch.num_rows, np.int64)
    values: list[tuple[Value, ...]] = [()]
    for column in columns:
        words, codes = _encode(batch.column(column))
        # Numbered anew after each column, so that the product of many columns cannot outgrow an int64.
        pairs, ids = np.unique(ids * len(words) + codes, return_inverse=True)
        values = [(*values[pair // len(words)], words[pair % len(words)]) for pair in pairs.tolist()]
    if batch.num_rows == 0:
        return [], ids
    return [SliceKey(tuple(columns), combination) for combination in values], ids


def _encode(column: pa.Array | pa.ChunkedArray) -> tuple[list[Value], np.ndarray]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_floating(column.type):
        column = pc.add(column, 0.0)  # makes -0.0 the 0.0 that it equals
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _text(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value == value.strip() and value.isprintable() and value != "null"
        return value if plain else json.dumps(value, ensure_ascii=False)
    return repr(value).removesuffix(".0")
