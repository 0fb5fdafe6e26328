"""The task, the network, and its judgement."""

from typing import Annotated, Any, Literal

import pydantic

from configs.base import Node, kind_shorthand
from configs.features import ColumnType
from configs.monitoring import OnBreach
from configs.training import AnyTraining, LocalTraining

COLUMN_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
ColumnName = Annotated[str, pydantic.Field(pattern=COLUMN_NAME)]


class Regression(Node):
    """Predicts a number."""

    kind: Literal["regression"]


class Binary(Node):
    """Predicts the probability that the label is 1 (true).

    Attributes:
        threshold: probability from which the predicted label is 1.
    """

    kind: Literal["binary"]
    threshold: float = pydantic.Field(default=0.5, gt=0, lt=1)


class Multiclass(Node):
    """Predicts one of several classes.

    Attributes:
        classes: in the order of their ids; by default the train split's labels, sorted.
        top_k: for the top-k accuracy.
    """

    kind: Literal["multiclass"]
    classes: tuple[str, ...] | None = None
    top_k: int = pydantic.Field(default=3, ge=2)

    @pydantic.field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (len(classes) < 2 or len(set(classes)) < len(classes)):
            raise ValueError("at least two classes, each once")
        return classes


Task = Annotated[
    Annotated[Regression | Binary | Multiclass, pydantic.Field(discriminator="kind")],
    pydantic.BeforeValidator(kind_shorthand),
]


class Network(Node):
    """A multilayer perceptron over the encoded features."""

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @pydantic.field_validator("hidden")
    @classmethod
    def _positive(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if any(units < 1 for units in hidden):
            raise ValueError("each layer needs at least one unit")
        return hidden


class Model(Node):
    """The model.

    Attributes:
        build_model: `package.module:function` of the team's own `build_model(transform_output, task) -> keras.Model`,
            in place of `network`.
    """

    network: Network = Network()
    build_model: str | None = pydantic.Field(default=None, pattern=r"^[\w.]+:\w+$")
    training: AnyTraining = LocalTraining()


class ForeignOutput(Node):
    """An output of a foreign model's signature, as the prediction table has it.

    Attributes:
        column: its name in the table; by default the output's own.
        classes: of a `[batch_size, num_classes]` output, which then has a column for each, `<column>_<class>`; without
            them it is one column of arrays.
        type: by default as found in the signature. An output of float64 has to be declared: the table has float32.
        description: goes to the prediction table's columns.
    """

    column: ColumnName | None = None
    classes: tuple[str, ...] | None = pydantic.Field(default=None, min_length=1)
    type: ColumnType | None = None
    description: str = ""


def _output_shorthand(value: Any) -> Any:
    """Lets `score: risk` stand for `score: {column: risk}`, and `score:` for an output just as it is."""
    return {"column": value} if isinstance(value, str) else {} if value is None else value


class ForeignModel(Node):
    """A SavedModel that somebody else made.

    All that its job file needs beside it are the inputs of its signature and the values to expect of them:

        name: flats
        model: {saved_model: models/flats, outputs: {rent: rent_chf, shares: {classes: [low, high]}}}
        features:
          city: {type: string, missing: Bern}
          area: {type: float}
        input_space:
          axes:
            city: {values: [Basel, Bern, null]}
            area: {range: [10, 200], step: 0.5}

    Attributes:
        saved_model: its folder; a relative path starts where the command runs.
        signature: that predicts.
        outputs: by their names in the signature, in the order of the table's columns; by default all of them.
    """

    saved_model: str
    signature: str = "serving_default"
    outputs: dict[str, Annotated[ForeignOutput, pydantic.BeforeValidator(_output_shorthand)]] = pydantic.Field(
        default_factory=dict
    )


class ChangeThreshold(Node):
    """How much worse than the last published model, on the same examples, a metric may get."""

    absolute: float | None = pydantic.Field(default=None, ge=0)
    relative: float | None = pydantic.Field(default=None, ge=0)

    @pydantic.model_validator(mode="after")
    def _either(self) -> "ChangeThreshold":
        if self.absolute is None and self.relative is None:
            raise ValueError("expected absolute or relative")
        return self


class Threshold(Node):
    """Bounds on one metric.

    Attributes:
        metric: as in metrics.json, e.g. `mae` or `auc`.
        slices: slice specifications it holds for; by default the overall slice only.
        min_examples: slices with fewer examples are not judged by it.
    """

    metric: str
    lower_bound: float | None = None
    upper_bound: float | None = None
    change: ChangeThreshold | None = None
    slices: tuple[tuple[str, ...], ...] = ((),)
    min_examples: int = pydantic.Field(default=1, ge=1)

    @pydantic.model_validator(mode="after")
    def _some_bound(self) -> "Threshold":
        if self.lower_bound is None and self.upper_bound is None and self.change is None:
            raise ValueError("expected lower_bound, upper_bound or change")
        return self


class Evaluation(Node):
    """How the exported model is judged on the eval split.

    Attributes:
        slices: each a list of raw features; `[]` is the whole split.
        skew_rows: rows on which training's features are compared with the serving graph's.
        on_constant: where the model is no better than a constant answer, says so and goes on, or refuses the night.
    """

    slices: tuple[tuple[str, ...], ...] = ((),)
    thresholds: tuple[Threshold, ...] = ()
    skew_rows: int = pydantic.Field(default=10_000, ge=1)
    on_constant: OnBreach = "warn"

    @pydantic.field_validator("slices")
    @classmethod
    def _with_overall(cls, slices: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return slices if () in slices else (*slices, ())
