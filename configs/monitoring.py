"""What tonight's examples are compared with, and from which distance on that matters.

A distance is between 0 and 1: of words and categories the L-infinity distance, which is the largest change of a value's
share; of numbers the Jensen-Shannon divergence in bits; of any column the change of its missing share; and of words
and categories, where there is a label of numbers, how much more or less apart its means are for two of them, in its
standard deviations.
"""

from typing import Annotated, Literal

import pydantic

from configs.base import Node

Distance = Annotated[float, pydantic.Field(ge=0, le=1)]
OnBreach = Literal["warn", "block"]


class Comparison(Node):
    """Thresholds on distances.

    Attributes:
        threshold: a distance above it is a breach. It is meant for many rows; what chance makes of few ones is added.
        features: thresholds of columns of their own; 1 is never breached.
        on_breach: says so and goes on, or refuses the night before anything is trained.
    """

    threshold: Distance = 0.1
    features: dict[str, Distance] = pydantic.Field(default_factory=dict)
    on_breach: OnBreach = "warn"

    def threshold_of(self, feature: str) -> float:
        """The threshold for one column."""
        return self.features.get(feature, self.threshold)


class Skew(Comparison):
    """Tonight's `traffic`, which is what the model is asked, against the examples that it learns from."""


class Drift(Comparison):
    """Tonight's examples against those of the last nights that were published.

    Attributes:
        nights: how many; a column has drifted if it is too far from each of them, so that 7 allows for a week's course.
        on_stale: where the examples are last night's very rows, though the date is another.
    """

    nights: int = pydantic.Field(default=1, ge=1)
    on_stale: Literal["ignore", "warn", "block"] = "warn"
