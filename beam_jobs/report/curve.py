"""The predictions along one axis of the published table, all other axes being held at one row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_jobs.published_axes import PublishedAxis
from beam_jobs.report.reference_point import TypicalRow
from configs.space import interval_columns


@dataclasses.dataclass(frozen=True)
class Curve:
    """One axis' rows with their predictions.

    Attributes:
        rows: of the table: the axis' keys and the outputs.
        typical: the row that the other panels hold the axis at.
    """

    axis: PublishedAxis
    typical: TypicalRow
    rows: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Of the feature or features."""
        return " × ".join(self.axis.asked)


def effect(curve: Curve, columns: Sequence[str]) -> float:
    """How far the feature alone moves a prediction."""
    spans = []
    for column in columns:
        values = [row[column] for row in curve.rows if row[column] is not None]
        spans.append(max(values) - min(values) if values else 0.0)
    return max(spans)


def keys_of(curve: Curve, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without its predictions."""
    return {name: row[name] for name in curve.axis.table.column_names}


def ordered(curve: Curve) -> tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """Rows by rising value, and the one of the missing value."""
    if curve.axis.intervals_of is not None:
        low, _, is_missing = interval_columns(curve.axis.intervals_of)
        missing = next((row for row in curve.rows if row.get(is_missing)), None)
        rest = [row for row in curve.rows if not row.get(is_missing)]
        return sorted(rest, key=lambda row: -np.inf if row[low] is None else row[low]), missing
    name = curve.axis.asked[0]
    missing = next((row for row in curve.rows if row[name] is None), None)
    return sorted((row for row in curve.rows if row[name] is not None), key=lambda row: row[name]), missing


def steps(curve: Curve, rows: Sequence[Mapping[str, Any]], column: str) -> tuple[list[float], list[float]]:
    """Edges and heights; an end without a bound is drawn a little beyond the last edge."""
    low_name, high_name, _ = interval_columns(curve.axis.intervals_of or "")
    edges = [row[low_name] for row in rows] + [rows[-1][high_name]]
    known = [edge for edge in edges if edge is not None]
    margin = 0.1 * ((max(known) - min(known)) if len(known) > 1 else 1.0) or 1.0
    edges[0] = edges[0] if edges[0] is not None else (min(known, default=0.0) - margin)
    edges[-1] = edges[-1] if edges[-1] is not None else (max(known, default=0.0) + margin)
    return edges, [row[column] for row in rows]
