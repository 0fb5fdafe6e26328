"""The checks that no single node of the job file can make, because they are between nodes."""

import difflib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from configs.contract_agreement import contract_problems
from configs.features import transformed_name
from configs.modeling import Multiclass
from configs.space import BucketsAxis, DistinctAxis, RowsAxis, VocabularyAxis

if TYPE_CHECKING:
    from configs.job import ForeignJob, Job, TrainedJob

Problem = tuple[tuple[str | int, ...], Any, str]
"""Path in the job file, the value found there, and what was expected."""
_NO_GRAPH = "brings no transform graph"


def space_problems(job: "Job") -> list[Problem]:
    """What does not fit together between the features and the input space."""
    return list(_axis_problems(job)) or list(_uncovered_features(job))


def trained_problems(job: "TrainedJob") -> list[Problem]:
    """Everything that does not fit together in a job that trains its model."""
    problems = [*_label_problems(job), *_preprocessing_problems(job), *_slice_problems(job)]
    problems += [*_vocabulary_axis_problems(job), *_buckets_axis_problems(job), *_axis_problems(job)]
    problems += contract_problems(job)
    return problems or list(_uncovered_features(job))


def foreign_problems(job: "ForeignJob") -> list[Problem]:
    """Everything that does not fit together in a job over a model that somebody else made."""
    problems = [*_foreign_feature_problems(job), *_foreign_axis_problems(job), *contract_problems(job)]
    return problems or space_problems(job)


def _label_problems(job: "TrainedJob") -> Iterator[Problem]:
    if job.label.name in job.features:
        yield ("label", "name"), job.label.name, "expected a name that is not a feature's"
    for name, column_type in job.columns.items():
        if name in job.features or name == job.label.name:
            yield ("columns", name), column_type, "already declared as a feature or the label"
    if isinstance(job.task, Multiclass):
        if job.label.type == "float":
            yield ("label", "type"), job.label.type, "expected string or int for a multiclass task"
    elif job.label.type == "string":
        yield ("label", "type"), job.label.type, f"expected float or int for a {job.task.kind} task"


def _preprocessing_problems(job: "TrainedJob") -> Iterator[Problem]:
    if job.preprocessing_fn is not None:
        for name, feature in job.features.items():
            if feature.transforms:
                yield ("features", name, "transforms"), len(feature.transforms), "expected none beside preprocessing_fn"
        if job.crosses:
            yield ("crosses",), len(job.crosses), "expected none beside preprocessing_fn"
        return
    crossable = [name for name, feature in job.features.items() if feature.type != "float"]
    for name, feature in job.features.items():
        bucketed = [t for t in feature.effective_transforms if t.kind in ("buckets", "quantile_buckets")]
        crossable += [transformed_name(name, transform) for transform in bucketed]
    for index, cross in enumerate(job.crosses):
        path = ("crosses", index, "features")
        yield from _unknown(path, cross.features, crossable, "a string or int feature, or buckets")


def _slice_problems(job: "TrainedJob") -> Iterator[Problem]:
    known = [*job.features, *job.columns]
    for index, names in enumerate(job.evaluation.slices):
        yield from _unknown(("evaluation", "slices", index), names, known, "a feature or column")
    for index, threshold in enumerate(job.evaluation.thresholds):
        for names in threshold.slices:
            if names not in job.evaluation.slices:
                path = ("evaluation", "thresholds", index, "slices")
                yield path, list(names), "expected one of evaluation.slices"


def _axis_problems(job: "Job") -> Iterator[Problem]:
    axis_of: dict[str, str] = {}
    for name, columns in job.input_space.axis_columns(tuple(job.features)).items():
        path, axis = ("input_space", "axes", name), job.input_space.axes[name]
        yield from _unknown(path, columns, job.features, "a feature")
        for column in columns:
            if column in axis_of:
                yield path, column, f"expected each feature in one axis; axis {axis_of[column]!r} has it too"
            axis_of.setdefault(column, name)
        if isinstance(axis, RowsAxis) and job.input_space.exclude is not None:
            yield ("input_space", "exclude"), job.input_space.exclude, "expected none beside a rows axis"


def _vocabulary_axis_problems(job: "TrainedJob") -> Iterator[Problem]:
    for name, axis in job.input_space.axes.items():
        if isinstance(axis, VocabularyAxis) and name in job.features and job.preprocessing_fn is None:
            kinds = [transform.kind for transform in job.features[name].effective_transforms]
            if "vocabulary" not in kinds:
                path = ("input_space", "axes", name)
                yield path, "vocabulary", "expected a feature with a vocabulary transform; list values instead"


def _buckets_axis_problems(job: "TrainedJob") -> Iterator[Problem]:
    """What can be told without the model's graph; whole numbers may be few, and a team's own function is code."""
    for name, axis in job.input_space.axes.items():
        feature, path = job.features.get(name), ("input_space", "axes", name)
        if not isinstance(axis, BucketsAxis) or feature is None:
            continue
        if feature.type == "string":
            yield path, "buckets", "expected a feature of numbers, not of text; list values instead"
        elif feature.type == "float" and job.preprocessing_fn is None:
            for transform in feature.effective_transforms:
                if transform.kind not in ("buckets", "quantile_buckets"):
                    output = transformed_name(name, transform)
                    yield path, "buckets", f"expected buckets alone: {output} differs between any two numbers"


def _foreign_feature_problems(job: "ForeignJob") -> Iterator[Problem]:
    for name, feature in job.features.items():
        if feature.transforms:
            path = ("features", name, "transforms")
            yield path, len(feature.transforms), "expected none beside model.saved_model, which has its own"


def _foreign_axis_problems(job: "ForeignJob") -> Iterator[Problem]:
    for name, axis in job.input_space.axes.items():
        path = ("input_space", "axes", name)
        if isinstance(axis, VocabularyAxis):
            yield path, "vocabulary", f"model.saved_model {_NO_GRAPH} to read a vocabulary from; list values instead"
        if isinstance(axis, BucketsAxis):
            yield path, "buckets", f"model.saved_model {_NO_GRAPH} to find edges in; give a range or list values"
        if isinstance(axis, DistinctAxis) and axis.distinct == "examples" and job.source is None:
            yield (*path, "distinct"), "examples", "expected a source: the job has none of its own"


def _uncovered_features(job: "Job") -> Iterator[Problem]:
    covered = [column for columns in job.input_space.axis_columns(tuple(job.features)).values() for column in columns]
    uncovered = [name for name in job.features if name not in covered]
    if uncovered:
        yield (
            ("input_space", "axes"),
            list(job.input_space.axes),
            f"expected an axis for each feature; none for {', '.join(uncovered)}",
        )


def _unknown(
    path: tuple[str | int, ...], names: tuple[str, ...], known: Collection[str], expected: str
) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
            yield path, name, f"expected {expected}{hint}"
