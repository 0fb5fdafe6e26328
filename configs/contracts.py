"""What must hold of the predictions before readers see them: contracts on a night, and a budget for what it changes.

Both are held against the whole table in the warehouse. They decide whether a night is shown, not what is in it, so an
edited contract is checked again and nothing is scored again.
"""

from typing import Annotated, Any, Literal, Self

import pydantic

from configs.base import Node, one_or_many

Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
Direction = Literal["increasing", "decreasing"]
Columns = Annotated[tuple[str, ...], pydantic.BeforeValidator(one_or_many), pydantic.Field(min_length=1)]


def _string_or_number(value: Any) -> Any:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError("expected a string or a number")  # noqa: TRY004, pydantic turns no TypeError into a problem
    return value


def _at_least_one(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("expected at least one value")
    return values


AllowedValues = Annotated[
    tuple[Annotated[Any, pydantic.AfterValidator(_string_or_number)], ...], pydantic.AfterValidator(_at_least_one)
]
CheckName = Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
TABLE_CHECKS = ("shards", "rows", "keys", "excluded", "predictions", "schema")
"""Of every table, whatever the job declares."""
NEW_ROWS, GONE_ROWS = "new_rows", "gone_rows"
"""Budget checks of the rows that only one of two nights has."""


def changes_check(output: str) -> str:
    """Name of the check that holds an output's changes against their budget."""
    return f"changes.{output}"


class _Contract(Node):
    where: str | None = None


class RangeContract(_Contract):
    """Numbers lie within bounds, which are included; null leaves a side open.

    Attributes:
        range: lowest and highest value, by output.
        where: SQL condition over the table's columns, in the warehouse's dialect: only such rows are judged.
    """

    range: dict[str, tuple[float | None, float | None]] = pydantic.Field(min_length=1)

    @pydantic.field_validator("range")
    @classmethod
    def _in_order(
        cls, bounds: dict[str, tuple[float | None, float | None]]
    ) -> dict[str, tuple[float | None, float | None]]:
        for output, (low, high) in bounds.items():
            if low is None and high is None:
                raise ValueError(f"expected a lowest or a highest value of {output}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"expected the lowest value of {output} first, then the highest")
        return bounds


class NotNullContract(_Contract):
    """Every judged row has a value. Without `where` every night is held to this anyway."""

    not_null: Columns


class Monotone(pydantic.BaseModel):
    """The direction of each output, by name, and the feature along which it is judged, all else being equal.

    Attributes:
        in_: the feature, on a `values`, `range` or `buckets` axis; rows in which it is missing are not judged.
        strict: equal neighbours are a violation too.
        eps: how far a value may fall behind any earlier one.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, serialize_by_alias=True)
    __pydantic_extra__: dict[str, Direction]

    in_: str = pydantic.Field(alias="in")
    strict: bool = False
    eps: float = pydantic.Field(default=0.0, ge=0)

    @pydantic.model_validator(mode="after")
    def _some_output(self) -> Self:
        if not self.outputs:
            raise ValueError("expected an output with increasing or decreasing, such as {price: increasing, in: area}")
        if self.strict and self.eps:
            raise ValueError("expected strict or eps, and not both")
        return self

    @property
    def outputs(self) -> dict[str, Direction]:
        """Direction by output."""
        return self.__pydantic_extra__


class MonotoneContract(_Contract):
    """A prediction never falls, or never rises, as one feature grows and all else is equal."""

    monotone: Monotone


class SumsToOneContract(_Contract):
    """Probabilities of a row sum to one.

    Attributes:
        sums_to_one: an output of several classes or of an array, or the columns.
        tolerance: of the sum.
    """

    sums_to_one: Columns
    tolerance: float = pydantic.Field(default=1e-5, gt=0)


class AllowedValuesContract(_Contract):
    """Predictions are among the listed values, by output."""

    allowed_values: dict[str, AllowedValues] = pydantic.Field(min_length=1)


CONTRACT_KINDS = {
    "range": RangeContract,
    "not_null": NotNullContract,
    "monotone": MonotoneContract,
    "sums_to_one": SumsToOneContract,
    "allowed_values": AllowedValuesContract,
}


def _contract_tag(value: Any) -> str | None:
    if isinstance(value, dict):
        kinds = [f"{kind} contract" for kind in CONTRACT_KINDS if kind in value]
        return kinds[0] if len(kinds) == 1 else None
    return next((f"{kind} contract" for kind, node in CONTRACT_KINDS.items() if isinstance(value, node)), None)


Contract = Annotated[
    Annotated[RangeContract, pydantic.Tag("range contract")]
    | Annotated[NotNullContract, pydantic.Tag("not_null contract")]
    | Annotated[MonotoneContract, pydantic.Tag("monotone contract")]
    | Annotated[SumsToOneContract, pydantic.Tag("sums_to_one contract")]
    | Annotated[AllowedValuesContract, pydantic.Tag("allowed_values contract")],
    pydantic.Discriminator(
        _contract_tag,
        custom_error_type="contract_kind",
        custom_error_message=f"expected a contract with exactly one of {', '.join(CONTRACT_KINDS)}",
    ),
]


class OutputBudget(Node):
    """How much one output may change from a night to the next; what is left out is as for all outputs.

    Attributes:
        threshold: a number has changed where it moved by more than this; a class where it is another.
        max_fraction: of the rows common to both nights that may change.
        max_flips: the same for an output that is a class, in place of `max_fraction`.
    """

    threshold: float | None = pydantic.Field(default=None, ge=0)
    max_fraction: Fraction | None = None
    max_flips: Fraction | None = None


class ChangeBudget(Node):
    """How much a night may change against the one that readers see; over that, it is refused.

    Attributes:
        threshold: a number has changed where it moved by more than this; a class where it is another.
        max_fraction: of the rows common to both nights that may change, of each output.
        max_flips: the same for an output that is a class, in place of `max_fraction`.
        max_new: rows that the night before has not, as a fraction of tonight's.
        max_gone: rows that tonight has not, as a fraction of the night's before.
        outputs: limits of one output's own, by name.
    """

    threshold: float = pydantic.Field(default=0.0, ge=0)
    max_fraction: Fraction | None = None
    max_flips: Fraction | None = None
    max_new: Fraction | None = None
    max_gone: Fraction | None = None
    outputs: dict[str, OutputBudget] = pydantic.Field(default_factory=dict)

    def threshold_of(self, output: str) -> float:
        """By how much a number of this output must move to count as changed."""
        own = self.outputs[output].threshold if output in self.outputs else None
        return self.threshold if own is None else own

    def limit_of(self, output: str, is_class: bool) -> float | None:
        """The fraction of this output's common rows that may change; None is without a limit."""
        own = self.outputs.get(output, OutputBudget())
        flips, fractions = (own.max_flips, self.max_flips), (own.max_fraction, self.max_fraction)
        limits = (flips[0], fractions[0], flips[1], fractions[1]) if is_class else fractions
        return next((limit for limit in limits if limit is not None), None)
