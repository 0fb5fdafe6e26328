"""The job file: one frozen tree that says what a night does. Who makes the model decides which of two kinds it is."""

import hashlib
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic_core import InitErrorDetails, PydanticCustomError

from configs.agreement import Problem, foreign_problems, space_problems, trained_problems
from configs.base import Node
from configs.cloud import BigQueryWarehouse, DataflowRunner, Endpoints
from configs.contracts import ChangeBudget, CheckName, Contract
from configs.features import ColumnType, Cross, Embedding, Feature, Label, OneHot, declared_encodings
from configs.modeling import Evaluation, ForeignModel, Model, Regression, Task
from configs.monitoring import Drift, Skew
from configs.monitoring_agreement import monitoring_problems
from configs.notifying import AnyNotification
from configs.precomputing import PipelinePrecompute, Precompute
from configs.runner_agreement import runner_problems
from configs.sources import HashSplit, Source, Split
from configs.space import Space
from configs.vertex import Vertex
from configs.vertex_agreement import vertex_problems
from configs.workspace_agreement import workspace_problems

Name = Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class DuckDBWarehouse(Node):
    """Prediction tables in an embedded DuckDB catalog.

    Attributes:
        path: of the catalog file; by default `<workspace>/<job>/<job>.duckdb`.
    """

    kind: Literal["duckdb"] = "duckdb"
    path: str | None = None


class DirectRunner(Node):
    """Runs Beam in this process."""

    kind: Literal["direct"] = "direct"


Warehouse = Annotated[DuckDBWarehouse | BigQueryWarehouse, pydantic.Field(discriminator="kind")]
Runner = Annotated[DirectRunner | DataflowRunner, pydantic.Field(discriminator="kind")]


class Publish(Node):
    """How long nights are kept, and what may change between them.

    Attributes:
        retention_days: a night's table goes this many days after its run date, but never the one that is published.
        allow_schema_change: lets a night through whose columns differ from the published night's; else it is refused.
        contracts: that the predictions must keep, by name.
        changes: how much a night may change against the one that readers see.
    """

    retention_days: int = pydantic.Field(default=30, ge=1)
    allow_schema_change: bool = False
    contracts: dict[CheckName, Contract] = pydantic.Field(default_factory=dict)
    changes: ChangeBudget = ChangeBudget()


class Job(Node):
    """What every job says; see `TrainedJob` and `ForeignJob`.

    Attributes:
        workspace: folder of all run directories.
        features: raw features, in the order of the serving signature and the prediction table.
        notify: whom a night tells how it ended.
        prices: file of a price table for `foretable run --dry-run`, in place of the one that comes with the package.
    """

    name: Name
    description: str = ""
    workspace: str = "workspace"
    features: dict[Name, Feature] = pydantic.Field(min_length=1)
    model: Model | ForeignModel
    input_space: Space
    precompute: Precompute = PipelinePrecompute()
    warehouse: Warehouse = DuckDBWarehouse()
    publish: Publish = Publish()
    runner: Runner = DirectRunner()
    vertex: Vertex | None = None
    endpoints: Endpoints = Endpoints()
    notify: tuple[AnyNotification, ...] = ()
    prices: str | None = None

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> Self:
        details = [
            InitErrorDetails(type=PydanticCustomError("job", "{message}", {"message": message}), loc=path, input=value)
            for path, value, message in (
                *self.problems(),
                *workspace_problems(self),
                *runner_problems(self),
                *vertex_problems(self),
            )
        ]
        if details:
            raise pydantic.ValidationError.from_exception_data("Job", details)
        return self

    def problems(self) -> list[Problem]:
        """What does not fit together between nodes."""
        return space_problems(self)

    def digest(self) -> str:
        """SHA-256 of everything that can change what is published; where it runs and is kept cannot."""
        places = ("workspace", "warehouse", "runner", "vertex", "endpoints", "publish", "notify", "prices")
        elsewhere: dict[str, Any] = dict.fromkeys(places, True) | {"precompute": set(self.precompute.ELSEWHERE)}
        if isinstance(self.model, Model):
            elsewhere["model"] = {"training": set(self.model.training.ELSEWHERE)}
        return hashlib.sha256(self.model_dump_json(exclude=elsewhere).encode()).hexdigest()


class TrainedJob(Job):
    """A job that trains its model and judges it before it publishes.

    Attributes:
        columns: further columns that are read for the label's expression or for slices, with their types.
        preprocessing_fn: `package.module:function` of the team's own tf.Transform function, in place of `transforms`.
        max_bad_rows: rows that may be set aside before `prepare` refuses.
        schema_file: `schema:`, text file of the schema that the team keeps; what breaks it refuses the night. Without
            it examples are held against what the last night's were inferred to be, and what breaks that is a warning.
        traffic: rows that the model is asked about, for `skew`; only features are read, and any may be missing.
        skew: how far the traffic may be from the train split.
        drift: how far tonight's train split may be from the last nights'.
    """

    model_config = pydantic.ConfigDict(serialize_by_alias=True)  # `schema` is a name that pydantic has taken

    source: Source
    split: Split
    columns: dict[str, ColumnType] = pydantic.Field(default_factory=dict)
    crosses: tuple[Cross, ...] = ()
    preprocessing_fn: str | None = pydantic.Field(default=None, pattern=r"^[\w.]+:\w+$")
    label: Label
    task: Task = Regression(kind="regression")
    max_bad_rows: int = pydantic.Field(default=0, ge=0)
    schema_file: str | None = pydantic.Field(default=None, alias="schema")
    traffic: Source | None = None
    skew: Skew = Skew()
    drift: Drift = Drift()
    model: Model = Model()
    evaluation: Evaluation = Evaluation()

    def problems(self) -> list[Problem]:
        """What does not fit together between nodes."""
        return trained_problems(self) or monitoring_problems(self)

    @property
    def encodings(self) -> dict[str, OneHot | Embedding]:
        """Encodings that the job file asks for, by transformed feature."""
        return {} if self.preprocessing_fn else declared_encodings(self.features, self.crosses)

    @property
    def compared_columns(self) -> tuple[str, ...]:
        """Columns of the examples that say something: all but those which only split them."""
        return tuple(dict.fromkeys([*self.features, *self.columns, self.label.name]))

    @property
    def read_columns(self) -> dict[str, ColumnType]:
        """Every column that a row of examples must have, with its type; what only the split needs is read as text."""
        columns: dict[str, ColumnType] = {name: feature.type for name, feature in self.features.items()}
        columns |= self.columns
        if self.label.expression is None:
            columns[self.label.name] = self.label.type
        if isinstance(self.split, HashSplit):
            columns |= {name: "string" for name in self.split.by if name not in columns}
        return columns


class ForeignJob(Job):
    """A job over a SavedModel that somebody else made: it plans, precomputes and publishes, and trains nothing.

    Attributes:
        features: raw inputs of the model's signature; a `missing:` value is put in before the model is called.
        source: of `distinct: examples`, if an axis says so.
    """

    model: ForeignModel
    source: Source | None = None

    def problems(self) -> list[Problem]:
        """What does not fit together between nodes."""
        return foreign_problems(self)


def _job_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "foreign job" if is_foreign(value) else "trained job"
    return "foreign job" if isinstance(value, ForeignJob) else "trained job"


def is_foreign(tree: dict[str, Any]) -> bool:
    """Whether the job given as plain values brings its model: `model` has a `saved_model`."""
    model = tree.get("model")
    return isinstance(model, dict) and "saved_model" in model


AnyJob = Annotated[
    Annotated[TrainedJob, pydantic.Tag("trained job")] | Annotated[ForeignJob, pydantic.Tag("foreign job")],
    pydantic.Discriminator(_job_tag),
]
