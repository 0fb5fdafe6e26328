"""Holds a night's statistics against a schema: what is wrong, and the edit of the schema that would make it right.

Both come of one walk, as in TFDV, so that the edit mends just what is wrong.
"""

import dataclasses
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

from transforms.examples.anomaly import Anomaly
from transforms.examples.schema_rules import Case, Finding, check_column

_NOT_CHECKED = (schema_pb2.PLANNED, schema_pb2.ALPHA, schema_pb2.DEPRECATED, schema_pb2.DEBUG_ONLY)
_KINDS = {schema_pb2.BYTES: "string", schema_pb2.FLOAT: "float", schema_pb2.INT: "int"}


@dataclasses.dataclass(frozen=True)
class SchemaCheck:
    """Examples against a schema.

    Attributes:
        proposal: the schema, edited so that these examples are valid; the schema as it is if they are.
    """

    anomalies: tuple[Anomaly, ...]
    proposal: Schema


def check_schema(
    schema: Schema, statistics: statistics_pb2.DatasetFeatureStatisticsList, inferred: Schema
) -> SchemaCheck:
    """Validates examples. A rule that both splits break is one anomaly, the train split's.

    Args:
        schema: that the team keeps. Columns that it calls deprecated, or not yet in use, are not looked at.
        statistics: of the examples, a dataset for each split.
        inferred: the schema of these very examples: their columns, and what a proposal takes over.
    """
    proposal = Schema()
    proposal.CopyFrom(schema)
    anomalies = list(_check_rows(schema, statistics, proposal))
    tonight = {feature.name: feature for feature in inferred.feature}
    for feature, edited in zip(schema.feature, list(proposal.feature), strict=True):
        if feature.deprecated or feature.lifecycle_stage in _NOT_CHECKED:
            continue
        if feature.name not in tonight:
            anomalies.append(_vanished(feature))
            edited.lifecycle_stage = schema_pb2.DEPRECATED
            continue
        for finding in _findings(feature, schema, statistics, tonight[feature.name], inferred):
            path = f"schema.{feature.name}"
            anomalies.append(Anomaly(path, "ERROR", finding.short, finding.long, feature.name, finding.reason))
            finding.mend(edited, proposal)
    known = {feature.name for feature in schema.feature}
    for name, feature in tonight.items():
        if name not in known:
            long = f"{name} is not in the schema, which so asks nothing of it"
            anomalies.append(Anomaly(f"schema.{name}", "WARNING", "new column", long, name, "SCHEMA_NEW_COLUMN"))
            _take_over(proposal.feature.add(), proposal, feature, inferred)
    return SchemaCheck(tuple(anomalies), proposal)


def _findings(
    feature: Feature,
    schema: Schema,
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    tonight: Feature,
    inferred: Schema,
) -> Iterator[Finding]:
    if feature.type != tonight.type:
        expected, found = (_KINDS.get(kind, "of another type") for kind in (feature.type, tonight.type))
        long = f"{feature.name} is {found}, expected {expected}"
        mend = lambda edited, proposal: _take_over(edited, proposal, tonight, inferred)  # noqa: E731
        yield Finding("UNEXPECTED_DATA_TYPE", "another type", long, mend)
        return
    of_splits = {
        dataset.name: stats
        for dataset in statistics.datasets
        for stats in dataset.features
        if stats.path.step[0] == feature.name and dataset.num_examples
    }
    found_reasons: set[str] = set()
    for split, stats in of_splits.items():
        for finding in check_column(Case(feature, schema, tonight, split, stats, tuple(of_splits.values()))):
            if finding.reason not in found_reasons:
                found_reasons.add(finding.reason)
                yield finding


def _vanished(feature: Feature) -> Anomaly:
    is_required = feature.presence.min_count > 0 or feature.presence.min_fraction > 0
    long = f"{feature.name} is in the schema, and the job reads no such column"
    return Anomaly(
        f"schema.{feature.name}",
        "ERROR" if is_required else "WARNING",
        "column vanished",
        long,
        feature.name,
        "SCHEMA_MISSING_COLUMN",
    )


def _check_rows(
    schema: Schema, statistics: statistics_pb2.DatasetFeatureStatisticsList, proposal: Schema
) -> Iterator[Anomaly]:
    """The dataset's constraints, which are for both splits together and never inferred."""
    limits, edited = schema.dataset_constraints, proposal.dataset_constraints
    rows = int(sum(dataset.num_examples for dataset in statistics.datasets))
    if limits.HasField("min_examples_count") and rows < limits.min_examples_count:
        long = f"{rows:,} rows, expected {limits.min_examples_count:,} or more (dataset_constraints)"
        yield Anomaly("schema", "ERROR", "too few rows", long, "", "DATASET_LOW_NUM_EXAMPLES")
        edited.min_examples_count = rows
    if limits.HasField("max_examples_count") and rows > limits.max_examples_count:
        long = f"{rows:,} rows, expected at most {limits.max_examples_count:,} (dataset_constraints)"
        yield Anomaly("schema", "ERROR", "too many rows", long, "", "DATASET_HIGH_NUM_EXAMPLES")
        edited.max_examples_count = rows


def _take_over(edited: Feature, proposal: Schema, tonight: Feature, inferred: Schema) -> None:
    """Makes a column what it is tonight, with its domain."""
    edited.CopyFrom(tonight)
    for domain in inferred.string_domain:
        if domain.name == tonight.domain:
            same = [own for own in proposal.string_domain if own.name == domain.name]
            (same[0] if same else proposal.string_domain.add()).CopyFrom(domain)
