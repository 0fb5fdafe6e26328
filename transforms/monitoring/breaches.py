"""Breaches of thresholds on distances, in words and in TensorFlow Metadata's protos."""

from collections.abc import Iterable, Sequence
from typing import Literal

from tensorflow_metadata.proto.v0.anomalies_pb2 import DriftSkewInfo

from configs.monitoring import OnBreach
from transforms.examples.anomaly import Anomaly
from transforms.monitoring.comparison import FeatureDistance, Measure

_REASONS: dict[Measure, str] = {
    "l_infinity": "COMPARATOR_L_INFTY_HIGH",
    "jensen_shannon": "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
    "missing": "FEATURE_TYPE_LOW_FRACTION_PRESENT",
    "gone": "COMPARATOR_TREATMENT_DATA_MISSING",
    "label_means": "CUSTOM_VALIDATION",
}
_WORDS: dict[Measure, str] = {
    "l_infinity": "the L-infinity distance",
    "jensen_shannon": "the Jensen-Shannon divergence",
    "missing": "the change of the missing share",
    "label_means": "the change of the label's means, in its deviations,",
}
_SHORT: dict[Measure, str] = {"gone": "values gone", "label_means": "label goes otherwise with values"}
_TYPES: dict[Measure, DriftSkewInfo.Measurement.Type] = {
    "l_infinity": DriftSkewInfo.Measurement.L_INFTY,
    "jensen_shannon": DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE,
}
SEVERITIES: dict[OnBreach, Literal["ERROR", "WARNING"]] = {"block": "ERROR", "warn": "WARNING"}

Comparison = Literal["skew", "drift"]


def breached_everywhere(samples: Sequence[Sequence[FeatureDistance]]) -> list[FeatureDistance]:
    """The first sample's breaches of what is breached against every sample: a night may be like any of several."""
    others = [{(entry.feature, entry.measure) for entry in sample if entry.breached} for sample in samples]
    return [
        entry
        for entry in (samples[0] if samples else ())
        if entry.breached and all((entry.feature, entry.measure) in breached for breached in others)
    ]


def breach_text(entry: FeatureDistance) -> str:
    """One line on a breach."""
    if entry.measure == "gone":
        return entry.about
    return f"{_WORDS[entry.measure]} is {entry.distance:.3g}, expected at most {entry.threshold:.3g}: {entry.about}"


def breach_anomalies(breaches: Iterable[FeatureDistance], comparison: Comparison) -> list[Anomaly]:
    """An anomaly for each breach, an error where it blocks."""
    return [
        Anomaly(
            path=f"{comparison}.features.{entry.feature}",
            severity=SEVERITIES[entry.on_breach],
            short=_SHORT.get(entry.measure, f"high {comparison}"),
            long=breach_text(entry),
            column=entry.feature,
            reason=_REASONS[entry.measure],
        )
        for entry in breaches
    ]


def measurements(skew: Sequence[FeatureDistance], drift: Sequence[FeatureDistance]) -> list[DriftSkewInfo]:
    """What was measured, breached or not, by column; only measures that TensorFlow Metadata has a name for."""
    infos: dict[str, DriftSkewInfo] = {}
    for entries, field in ((skew, "skew_measurements"), (drift, "drift_measurements")):
        for entry in entries:
            if entry.measure in _TYPES:
                info = infos.setdefault(entry.feature, DriftSkewInfo())
                info.path.step[:] = [entry.feature]
                getattr(info, field).add(type=_TYPES[entry.measure], value=entry.distance, threshold=entry.threshold)
    return list(infos.values())
