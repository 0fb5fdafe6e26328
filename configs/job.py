"""The job file: one frozen tree that says what a night does, and the checks that no single node can make."""

import difflib
import hashlib
from typing import Annotated, Any, Literal

import pydantic
from pydantic_core import InitErrorDetails, PydanticCustomError

from configs.base import Node
from configs.features import ColumnType, Cross, Embedding, Feature, Label, OneHot, declared_encodings, transformed_name
from configs.modeling import Evaluation, Model, Multiclass, Regression, Task
from configs.sources import HashSplit, Source, Split
from configs.space import RowsAxis, Space, VocabularyAxis

Name = Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Precompute(Node):
    """How predictions are computed.

    Attributes:
        shard_blocks: blocks of 65,536 points in one Parquet file.
    """

    shard_blocks: int = pydantic.Field(default=16, ge=1)


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


class Publish(Node):
    """How long nights are kept.

    Attributes:
        retention_days: a night's table goes this many days after its run date, but never the one that is published.
    """

    retention_days: int = pydantic.Field(default=30, ge=1)


class Job(Node):
    """A job.

    Attributes:
        workspace: folder of all run directories.
        features: raw features, in the order of the serving signature and the prediction table.
        columns: further columns that are read for the label's expression or for slices, with their types.
        preprocessing_fn: `package.module:function` of the team's own tf.Transform function, in place of `transforms`.
        max_bad_rows: rows that may be set aside before `prepare` refuses.
    """

    name: Name
    description: str = ""
    workspace: str = "workspace"
    source: Source
    split: Split
    features: dict[Name, Feature] = pydantic.Field(min_length=1)
    columns: dict[str, ColumnType] = {}
    crosses: tuple[Cross, ...] = ()
    preprocessing_fn: str | None = pydantic.Field(default=None, pattern=r"^[\w.]+:\w+$")
    label: Label
    task: Task = Regression(kind="regression")
    max_bad_rows: int = pydantic.Field(default=0, ge=0)
    model: Model = Model()
    evaluation: Evaluation = Evaluation()
    input_space: Space
    precompute: Precompute = Precompute()
    warehouse: DuckDBWarehouse = DuckDBWarehouse()
    publish: Publish = Publish()
    runner: DirectRunner = DirectRunner()

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> "Job":
        problems = [*self._label_problems(), *self._feature_problems(), *self._slice_problems(), *self._axis_problems()]
        if problems:
            details = [
                InitErrorDetails(type=PydanticCustomError("job", "{message}", {"message": message}), loc=path, input=value)
                for path, value, message in problems
            ]
            raise pydantic.ValidationError.from_exception_data("Job", details)
        return self

    def _label_problems(self) -> list["Problem"]:
        problems: list[Problem] = []
        if self.label.name in self.features:
            problems.append((("label", "name"), self.label.name, "expected a name that is not a feature's"))
        if not isinstance(self.task, Multiclass) and self.label.type == "string":
            problems.append((("label", "type"), self.label.type, f"expected float or int for a {self.task.kind} task"))
        if isinstance(self.task, Multiclass) and self.label.type == "float":
            problems.append((("label", "type"), self.label.type, "expected string or int for a multiclass task"))
        return problems

    def _feature_problems(self) -> list["Problem"]:
        problems: list[Problem] = []
        for name in self.columns:
            if name in self.features or name == self.label.name:
                problems.append((("columns", name), self.columns[name], "already declared as a feature or the label"))
        if self.preprocessing_fn is not None:
            declared = [name for name, feature in self.features.items() if feature.transforms]
            problems += [
                (("features", name, "transforms"), "…", "expected none beside preprocessing_fn") for name in declared
            ]
            if self.crosses:
                problems.append((("crosses",), "…", "expected none beside preprocessing_fn"))
            return problems
        crossable = {name: None for name, feature in self.features.items() if feature.type != "float"}
        crossable |= {
            transformed_name(name, transform): None
            for name, feature in self.features.items()
            for transform in feature.effective_transforms
            if transform.kind in ("buckets", "quantile_buckets")
        }
        for index, cross in enumerate(self.crosses):
            problems += _unknown(("crosses", index, "features"), cross.features, crossable, "a string or int feature, or buckets")
        return problems

    def _slice_problems(self) -> list["Problem"]:
        known = dict.fromkeys([*self.features, *self.columns])
        problems: list[Problem] = []
        for index, names in enumerate(self.evaluation.slices):
            problems += _unknown(("evaluation", "slices", index), names, known, "a feature or column")
        for index, threshold in enumerate(self.evaluation.thresholds):
            for names in threshold.slices:
                if names not in self.evaluation.slices:
                    path = ("evaluation", "thresholds", index, "slices")
                    problems.append((path, list(names), "expected one of evaluation.slices"))
        return problems

    def _axis_problems(self) -> list["Problem"]:
        problems: list[Problem] = []
        seen: dict[str, str] = {}
        for axis, columns in self.input_space.axis_columns(tuple(self.features)).items():
            problems += _unknown(("input_space", "axes", axis), columns, self.features, "a feature")
            for column in columns:
                if column in seen:
                    path = ("input_space", "axes", axis)
                    problems.append((path, column, f"expected each feature in one axis; {seen[column]!r} has it too"))
                seen.setdefault(column, axis)
            node = self.input_space.axes[axis]
            if isinstance(node, VocabularyAxis) and axis in self.features and self.preprocessing_fn is None:
                if all(t.kind != "vocabulary" for t in self.features[axis].effective_transforms):
                    path = ("input_space", "axes", axis)
                    problems.append((path, "vocabulary", "expected a feature with a vocabulary transform; list values instead"))
            if isinstance(node, RowsAxis) and self.input_space.exclude is not None:
                problems.append((("input_space", "exclude"), self.input_space.exclude, "expected none beside a rows axis"))
        missing = [name for name in self.features if name not in seen]
        if missing and not problems:
            problems.append((("input_space", "axes"), sorted(seen), f"expected an axis for each feature; none for {', '.join(missing)}"))
        return problems

    @property
    def encodings(self) -> dict[str, OneHot | Embedding]:
        """Encodings that the job file asks for, by transformed feature."""
        return {} if self.preprocessing_fn else declared_encodings(self.features, self.crosses)

    @property
    def read_columns(self) -> dict[str, ColumnType]:
        """Every column that a row of examples must have, with its type; the split's further columns are read as text."""
        columns: dict[str, ColumnType] = {name: feature.type for name, feature in self.features.items()}
        columns |= self.columns
        if self.label.expression is None:
            columns[self.label.name] = self.label.type
        if isinstance(self.split, HashSplit):
            columns |= {name: "string" for name in self.split.by if name not in columns}
        return columns

    def digest(self) -> str:
        """SHA-256 of everything that can change what is published; where it runs and is kept cannot."""
        text = self.model_dump_json(exclude={"workspace", "warehouse", "runner", "publish"})
        return hashlib.sha256(text.encode()).hexdigest()


Problem = tuple[tuple[str | int, ...], Any, str]


def _unknown(path: tuple[str | int, ...], names: tuple[str, ...], known: Any, expected: str) -> list[Problem]:
    problems: list[Problem] = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
            problems.append((path, name, f"expected {expected}{hint}"))
    return problems
