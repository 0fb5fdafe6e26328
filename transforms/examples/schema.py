"""Infers a schema of the train split's statistics and of what the job declares, with tolerances for later nights."""

import math
from collections.abc import Collection, Mapping

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics

from configs.features import ColumnType, Feature
from transforms.examples.schema_rules import float_below
from transforms.monitoring.distances import noise_of_shares
from transforms.monitoring.readings import common_of, dataset_of, missing_share, rows_of, value_counts_of

MAX_DOMAIN_VALUES = 100
"""A string column of more different values gets no domain: it would be no promise, and long."""
DOMAIN_TOLERANCE = 0.01
"""So much of a column need not be of its domain or range, at the least; more if it was inferred of few rows."""
MISSING_TOLERANCE = 0.1
"""So much more of a column that may be missing is tolerated, at the least."""

_ROWS_BY_CHANCE = 12
_MAX_TOLERANCE = 0.5

TYPES = {"string": schema_pb2.BYTES, "float": schema_pb2.FLOAT, "int": schema_pb2.INT}


def infer_schema(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    columns: Mapping[str, ColumnType],
    features: Mapping[str, Feature],
    unconstrained: Collection[str] = (),
) -> schema_pb2.Schema:
    """Infers what examples look like.

    Args:
        statistics: of the examples, with the datasets `train` and `eval`.
        columns: all columns of the examples with their types.
        features: as declared; the other columns' presence is taken from the statistics.
        unconstrained: columns whose values are new every night, as those may be which only split the examples.

    Returns:
        A schema with each column's type and presence; the domain of strings with few values, and a limit for how many
        the values of others become; the range of numbers.
    """
    seen = {stats.path.step[0]: stats for stats in dataset_of(statistics, "train").features}
    schema = schema_pb2.Schema()
    for name, column_type in columns.items():
        feature = schema.feature.add(name=name, type=TYPES[column_type])
        stats = seen.get(name)
        _infer_presence(feature, stats, features[name].may_be_missing if name in features else None)
        if stats is None or not common_of(stats).num_non_missing or name in unconstrained:
            continue
        if column_type == "string":
            _infer_words(schema, feature, stats)
        else:
            _infer_range(feature, stats)
    return schema


def _infer_presence(feature: schema_pb2.Feature, stats: FeatureNameStatistics | None, may_be: bool | None) -> None:
    missing, rows = missing_share(stats) if stats is not None else 0.0, rows_of(stats) if stats is not None else 0
    feature.presence.min_count = 1
    if may_be or (may_be is None and missing > 0):
        feature.value_count.min = feature.value_count.max = 1
        tolerance = max(MISSING_TOLERANCE, noise_of_shares(rows, rows)) if rows else 1.0
        least = math.floor((1 - missing - tolerance) * 100) / 100
        if least > 0:
            feature.presence.min_fraction = least
    else:
        # A shape says that the column is dense, which TensorFlow Metadata allows only if it is always there.
        feature.presence.min_fraction = 1.0
        feature.shape.SetInParent()


def _infer_words(schema: schema_pb2.Schema, feature: schema_pb2.Feature, stats: FeatureNameStatistics) -> None:
    """A domain, unless so many words came but once that it is not known by far.

    Good and Turing (1953): the share of words not seen yet is about the share of rows whose word was seen once.
    """
    unique, rows = stats.string_stats.unique, common_of(stats).num_non_missing
    counts = value_counts_of(stats) or {}
    once = sum(count == 1 for count in counts.values())
    tolerance = max(DOMAIN_TOLERANCE, (once + 4 * math.sqrt(once) + _ROWS_BY_CHANCE) / rows)
    if unique <= MAX_DOMAIN_VALUES and tolerance <= _MAX_TOLERANCE:
        schema.string_domain.add(name=feature.name, value=sorted(counts))
        feature.domain = feature.name
        feature.distribution_constraints.min_domain_mass = math.floor((1 - tolerance) * 100 + 1e-9) / 100
    elif MAX_DOMAIN_VALUES < unique <= rows / 2:  # beyond, the column is a key: a value for each row
        feature.unique_constraints.min = 1
        feature.unique_constraints.max = 2 * unique


def _infer_range(feature: schema_pb2.Feature, stats: FeatureNameStatistics) -> None:
    if feature.type == schema_pb2.INT:
        feature.int_domain.min, feature.int_domain.max = int(stats.num_stats.min), int(stats.num_stats.max)
    else:
        feature.float_domain.min = float_below(stats.num_stats.min)
        feature.float_domain.max = -float_below(-stats.num_stats.max)
    # Beyond each extreme of n rows there is 1 / n of the next ones, and seldom more than ten times that.
    tolerance = max(DOMAIN_TOLERANCE, 2 * _ROWS_BY_CHANCE / common_of(stats).num_non_missing)
    if tolerance <= _MAX_TOLERANCE:
        feature.distribution_constraints.min_domain_mass = math.floor((1 - tolerance) * 100 + 1e-9) / 100
    else:
        feature.ClearField("domain_info")
