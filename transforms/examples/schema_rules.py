"""What a schema asks of one column: a rule says whether a split's statistics keep it, and which edit would let them.

A tolerance of values is `distribution_constraints.min_domain_mass`; without one, every value has to be of the domain.
Where a share is tolerated it is one of many rows, and what chance makes of few ones is added. Nothing is added to none.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics

from transforms.monitoring.distances import noise_of_tolerance
from transforms.monitoring.readings import common_of, missing_share, rows_of, rows_outside, value_counts_of

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """A column of one split, and what is asked of it.

    Attributes:
        schema: that has the named domains.
        tonight: the column as it would be inferred of these very examples.
        stats: of the split.
        others: of every split.
    """

    feature: Feature
    schema: Schema
    tonight: Feature
    split: str
    stats: FeatureNameStatistics
    others: tuple[FeatureNameStatistics, ...]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A rule that is not kept.

    Attributes:
        reason: name of its type in TensorFlow Metadata.
        mend: edits the column, and the domains, of a schema so that all splits keep the rule.
    """

    reason: str
    short: str
    long: str
    mend: Callable[[Feature, Schema], object]


@dataclasses.dataclass(frozen=True)
class Tolerated:
    """A share of a column's rows that is tolerated.

    Attributes:
        share: of many rows.
        rows: that there are.
    """

    share: float
    rows: int

    def allows(self, share: float) -> bool:
        """Whether so many rows may have a larger share at most by chance."""
        return share <= self.share + self._chance

    @property
    def _chance(self) -> float:
        return noise_of_tolerance(self.share, self.rows) if self.share else 0.0

    def __str__(self) -> str:
        chance = f" and {self._chance:.1%} by chance" if self._chance >= 0.0005 else ""
        return f"{self.share:.1%}{chance}"


def check_column(case: Case) -> Iterator[Finding]:
    """Checks every rule."""
    yield from _presence(case)
    if not common_of(case.stats).num_non_missing:
        return
    if case.stats.HasField("string_stats"):
        yield from _domain(case)
        yield from _unique(case)
    else:
        yield from _range(case)


def domain_of(feature: Feature, schema: Schema) -> schema_pb2.StringDomain | None:
    """The column's domain of words: its own, or the schema's of that name."""
    if feature.HasField("string_domain"):
        return feature.string_domain
    return next((domain for domain in schema.string_domain if domain.name == feature.domain), None)


def bounds_of(feature: Feature) -> tuple[float, float] | None:
    """The column's least and greatest number, infinite where a side is open; None if it has no range of numbers."""
    kind = feature.WhichOneof("domain_info")
    if kind not in ("int_domain", "float_domain"):
        return None
    domain = getattr(feature, kind)
    low = float(domain.min) if domain.HasField("min") else -math.inf
    return low, float(domain.max) if domain.HasField("max") else math.inf


def float_below(value: float) -> float:
    """The greatest float32, which is what a range is kept in, that is not above a value."""
    with np.errstate(over="ignore"):
        nearest = np.float32(value)
        return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf)))


def _presence(case: Case) -> Iterator[Finding]:
    name, expected = case.feature.name, case.feature.presence
    present, count = 1 - missing_share(case.stats), common_of(case.stats).num_non_missing
    tolerated = Tolerated(round(1 - expected.min_fraction, 12), rows_of(case.stats))
    if rows_of(case.stats) and not tolerated.allows(1 - present):
        least = min(1 - missing_share(stats) for stats in case.others)

        def mend(feature: Feature, schema: Schema) -> None:
            feature.presence.min_fraction = min(case.tonight.presence.min_fraction, least)
            if feature.HasField("shape"):  # which is for columns that are always there
                feature.ClearField("shape")
                feature.value_count.min = feature.value_count.max = 1

        long = (
            f"{name} is missing in {1 - present:.1%} of the {case.split} split's rows, "
            f"expected at most {tolerated} (presence.min_fraction)"
        )
        yield Finding("FEATURE_TYPE_LOW_FRACTION_PRESENT", "missing too often", long, mend)
    if count < expected.min_count:
        long = f"{name} has {count} values in the {case.split} split, expected {expected.min_count} or more"
        few = min(common_of(stats).num_non_missing for stats in case.others)
        lower = lambda feature, schema: setattr(feature.presence, "min_count", few)  # noqa: E731
        yield Finding("FEATURE_TYPE_LOW_NUMBER_PRESENT", "too few values", long, lower)


def _domain(case: Case) -> Iterator[Finding]:
    domain = domain_of(case.feature, case.schema)
    if domain is None:
        return
    rows, known = common_of(case.stats).num_non_missing, set(domain.value)
    listed = value_counts_of(case.stats) or {}
    unknown = {word: count for word, count in listed.items() if word not in known}
    # Of very many words only the most frequent ones are listed, and more than a domain has.
    share = (sum(unknown.values()) + max(rows - sum(listed.values()), 0)) / rows
    tolerated = _tolerance(case)
    if not unknown or tolerated.allows(share):
        return

    def mend(feature: Feature, schema: Schema) -> None:
        edited = domain_of(feature, schema)
        words = known.union(*(value_counts_of(stats) or () for stats in case.others))
        if edited is not None:
            del edited.value[:]
            edited.value.extend(sorted(words))

    shown = ", ".join(f"{word!r} ({count / rows:.1%})" for word, count in list(unknown.items())[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    long = (
        f"{share:.1%} of {case.feature.name} in the {case.split} split is not of its domain, "
        f"expected at most {tolerated}: {shown}{more}"
    )
    yield Finding("ENUM_TYPE_UNEXPECTED_STRING_VALUES", "unknown values", long, mend)


def _unique(case: Case) -> Iterator[Finding]:
    limits, unique = case.feature.unique_constraints, case.stats.string_stats.unique
    if not case.feature.HasField("unique_constraints") or limits.min <= unique <= limits.max:
        return
    found = [stats.string_stats.unique for stats in case.others]

    def mend(feature: Feature, schema: Schema) -> None:
        feature.unique_constraints.max = max(limits.max, case.tonight.unique_constraints.max, *found)
        feature.unique_constraints.min = min(limits.min, *found)

    is_many = unique > limits.max
    long = (
        f"{case.feature.name} has {unique:,} different values in the {case.split} split, "
        f"expected {limits.min:,} to {limits.max:,} (unique_constraints)"
    )
    yield Finding(
        "FEATURE_TYPE_HIGH_UNIQUE" if is_many else "FEATURE_TYPE_LOW_UNIQUE",
        f"too {'many' if is_many else 'few'} different values",
        long,
        mend,
    )


def _range(case: Case) -> Iterator[Finding]:
    name, kind, found = case.feature.name, case.feature.WhichOneof("domain_info"), case.stats.num_stats
    bounds = bounds_of(case.feature)
    if kind is None or bounds is None:
        return
    low, high = bounds
    if low <= found.min and found.max <= high:
        return
    outside = rows_outside(case.stats, low, high) / found.common_stats.num_non_missing
    tolerated = _tolerance(case)
    if tolerated.allows(outside):
        return

    def mend(feature: Feature, schema: Schema) -> None:
        edited = getattr(feature, kind)
        least = min(stats.num_stats.min for stats in case.others)
        most = max(stats.num_stats.max for stats in case.others)
        if least < low:
            edited.min = int(least) if kind == "int_domain" else float_below(least)
        if most > high:
            edited.max = int(most) if kind == "int_domain" else -float_below(-most)

    side = "SMALL" if found.min < low else "BIG"
    long = (
        f"{_percent(outside)} of {name} in the {case.split} split is outside {low:g} to {high:g}, "
        f"expected at most {tolerated}: it goes from {found.min:g} to {found.max:g}"
    )
    reason = f"INT_TYPE_{side}_INT" if kind == "int_domain" else f"FLOAT_TYPE_{side}_FLOAT"
    yield Finding(reason, "out of range", long, mend)


def _percent(share: float) -> str:
    """As a percentage, also of a few in a million."""
    return f"{share:.1%}" if share >= 0.001 or not share else f"{100 * share:.1g}%"


def _tolerance(case: Case) -> Tolerated:
    """Share of the values that need not be of the domain."""
    has_tolerance = case.feature.HasField("distribution_constraints")
    mass = case.feature.distribution_constraints.min_domain_mass if has_tolerance else 1.0
    return Tolerated(round(1.0 - mass, 12), common_of(case.stats).num_non_missing)  # 1.0 - 0.9 is less than 0.1
