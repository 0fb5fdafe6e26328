"""Infers a schema from the train split's statistics and from what the job declares."""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from configs.features import ColumnType, Feature

MAX_DOMAIN_VALUES = 100
"""A string column of more different values gets no domain: it would be no promise, and long."""

_TYPES = {"string": schema_pb2.BYTES, "float": schema_pb2.FLOAT, "int": schema_pb2.INT}


def infer_schema(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    columns: Mapping[str, ColumnType],
    features: Mapping[str, Feature],
) -> schema_pb2.Schema:
    """Infers what examples look like.

    Args:
        statistics: of the examples, with the datasets `train` and `eval`.
        columns: all columns of the examples with their types.
        features: as declared; the other columns' presence is taken from the statistics.

    Returns:
        A schema with each column's type, presence, and shape or value count, and domains of strings with few values.
    """
    train = next(dataset for dataset in statistics.datasets if dataset.name == "train")
    seen = {feature.path.step[0]: feature for feature in train.features}
    schema = schema_pb2.Schema()
    for name, column_type in columns.items():
        feature = schema.feature.add(name=name, type=_TYPES[column_type])
        feature.presence.min_count = 1
        stats = seen.get(name)
        has_missing = stats is not None and _common(stats).num_missing > 0
        if features[name].may_be_missing if name in features else has_missing:
            feature.value_count.min = feature.value_count.max = 1
        else:
            # A shape says that the column is dense, which TensorFlow Metadata allows only if it is always there.
            feature.presence.min_fraction = 1.0
            feature.shape.SetInParent()
        if column_type == "string" and stats is not None and 0 < stats.string_stats.unique <= MAX_DOMAIN_VALUES:
            words = sorted(bucket.label for bucket in stats.string_stats.rank_histogram.buckets)
            schema.string_domain.add(name=name, value=words)
            feature.domain = name
    return schema


def _common(stats: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return stats.string_stats.common_stats if stats.HasField("string_stats") else stats.num_stats.common_stats
