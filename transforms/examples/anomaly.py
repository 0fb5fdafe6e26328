"""Something that is wrong with examples, and its form on disk: TensorFlow Metadata's `Anomalies`."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """Something wrong with the examples.

    Attributes:
        path: of the setting or column concerned, in the job file.
        severity: an error refuses the night, a warning does not.
        short: a few words, the same for all anomalies of this kind.
        long: one line with the values, and what mends it.
        column: that it is about; empty if it is about the examples as a whole.
        reason: name of the type that TensorFlow Metadata has for it.
    """

    path: str
    severity: Literal["ERROR", "WARNING"]
    short: str
    long: str
    column: str = ""
    reason: str = "UNKNOWN_TYPE"


def to_proto(
    anomalies: Iterable[Anomaly],
    baseline: schema_pb2.Schema,
    distances: Iterable[anomalies_pb2.DriftSkewInfo] = (),
) -> anomalies_pb2.Anomalies:
    """The anomalies as TFDV writes and shows them: by column, each with its reasons.

    Args:
        anomalies: to write.
        baseline: the schema that the examples were held against.
        distances: that were measured, breached or not.
    """
    proto = anomalies_pb2.Anomalies(
        baseline=baseline, anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH, drift_skew_info=distances
    )
    for anomaly in anomalies:
        entry = proto.anomaly_info[anomaly.column] if anomaly.column else proto.dataset_anomaly_info
        if anomaly.column and not entry.path.step:
            entry.path.step.append(anomaly.column)
        entry.reason.add(
            type=anomalies_pb2.AnomalyInfo.Type.Value(anomaly.reason),
            short_description=anomaly.short,
            description=f"{anomaly.path}: {anomaly.long}",
        )
        entry.severity = max(entry.severity, anomalies_pb2.AnomalyInfo.Severity.Value(anomaly.severity))
        entry.short_description = anomaly.short if len(entry.reason) == 1 else "Multiple errors"
        entry.description = "; ".join(reason.description for reason in entry.reason)
    return proto
