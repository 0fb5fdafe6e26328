"""The expected input space: axes, and what is excluded from their product."""

from typing import Annotated, Any, Literal

import pydantic

from configs.base import Node, one_or_many
from configs.sources import Source

Value = str | int | float | None


class ValuesAxis(Node):
    """The listed values of one feature; null is the missing value."""

    values: tuple[pydantic.StrictBool | Value, ...]


class RangeAxis(Node):
    """`low, low + step, …` up to and with `high`.

    Attributes:
        missing: adds the missing value, last.
    """

    range: tuple[float, float]
    step: float = pydantic.Field(default=1, gt=0)
    missing: bool = False


class VocabularyAxis(Node):
    """Every word of the graph's vocabulary, one out-of-vocabulary representative, and missing if it may be."""

    vocabulary: Literal[True]


class BucketsAxis(Node):
    """Every value of a numeric feature, as the intervals that the transform graph cannot look into.

    Attributes:
        range: lowest and highest value; by default the whole real line.
    """

    buckets: Literal[True]
    range: tuple[float, float] | None = None


class DistinctAxis(Node):
    """The combinations of some columns that exist in a source: one axis of several columns.

    Attributes:
        distinct: the source; `examples` is the job's own examples.
        columns: raw features.
    """

    distinct: Literal["examples"] | Source
    columns: Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)]


class RowsAxis(Node):
    """Exactly these rows, one axis over all features: ordinary batch scoring.

    Attributes:
        rows: the source.
        keys: columns that name a row, before the features in the prediction table. By default, the features do.
    """

    rows: Source
    keys: Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many)] = ()


AXIS_KINDS = {
    "values": ValuesAxis,
    "buckets": BucketsAxis,
    "range": RangeAxis,
    "vocabulary": VocabularyAxis,
    "distinct": DistinctAxis,
    "rows": RowsAxis,
}


def _axis_tag(value: Any) -> str | None:
    if isinstance(value, dict):
        kinds = [f"{kind} axis" for kind in AXIS_KINDS if kind in value]
        if kinds == ["buckets axis", "range axis"]:  # a range says where the buckets end
            return "buckets axis"
        return kinds[0] if len(kinds) == 1 else None
    return next((f"{kind} axis" for kind, node in AXIS_KINDS.items() if isinstance(value, node)), None)


Axis = Annotated[
    Annotated[ValuesAxis, pydantic.Tag("values axis")]
    | Annotated[BucketsAxis, pydantic.Tag("buckets axis")]
    | Annotated[RangeAxis, pydantic.Tag("range axis")]
    | Annotated[VocabularyAxis, pydantic.Tag("vocabulary axis")]
    | Annotated[DistinctAxis, pydantic.Tag("distinct axis")]
    | Annotated[RowsAxis, pydantic.Tag("rows axis")],
    pydantic.Discriminator(
        _axis_tag,
        custom_error_type="axis_kind",
        custom_error_message=f"expected an axis with exactly one of {', '.join(AXIS_KINDS)}",
    ),
]


def interval_columns(feature: str) -> tuple[str, str, str]:
    """Columns that a `buckets` axis has in place of its feature: lower bound, upper bound, whether it is missing.

    The last is there only if the feature may be missing. An interval has its lower bound in it and not its upper one;
    a bound is NULL where there is none.
    """
    return f"{feature}_from", f"{feature}_to", f"{feature}_is_missing"


class Space(Node):
    """The product of the axes, in row-major order: the last axis varies fastest.

    Attributes:
        axes: by name; a `values`, `range`, `buckets` or `vocabulary` axis is named after its feature.
        exclude: SQL condition over the axes' columns (DuckDB's dialect); points for which it is true are left out.
        max_points: a larger space is refused.
    """

    axes: dict[str, Axis] = pydantic.Field(min_length=1)
    exclude: str | None = None
    max_points: int = pydantic.Field(default=1_000_000_000, ge=1)

    def axis_columns(self, features: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Features that each axis gives values to, by axis."""
        return {name: _columns(name, axis, features) for name, axis in self.axes.items()}


def _columns(name: str, axis: Any, features: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(axis, DistinctAxis):
        return axis.columns
    return features if isinstance(axis, RowsAxis) else (name,)
