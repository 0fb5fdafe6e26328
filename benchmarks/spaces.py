"""Input spaces of exactly the asked number of points: each model has one shape a size, the same for every path."""

import math

import numpy as np
import pyarrow as pa

from benchmarks.models import MODELS, WORD_FEATURES, WORDS, word
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace

SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
_SEXES = ("False", "True", "Unknown", "(other)")
_PLURALITIES = ("Multiple(2+)", "Single(1)", "Triplets(3)", "Twins(2)", "(other)")


def make_space(model: str, points: int) -> InputSpace:
    """A space of `points` points for the model.

    The natality models vary sex, age, plurality and weeks, ever more finely. The wide model varies its first feature
    over the whole vocabulary, and as many others as it takes over ten words each; the rest have one word.

    Raises:
        ValueError: there is no such shape.
    """
    if "mother_age" not in MODELS[model].features:
        return InputSpace(tuple(_word_axes(points)))
    ages, weeks = _number_steps(points)
    return InputSpace(
        (
            _axis("is_male", list(_SEXES)),
            _axis("mother_age", _steps(12.0, 55.0, ages)),
            _axis("plurality", list(_PLURALITIES)),
            _axis("gestation_weeks", _steps(17.0, 47.0, weeks)),
        )
    )


def _number_steps(points: int) -> tuple[int, int]:
    product, rest = divmod(points, len(_SEXES) * len(_PLURALITIES))
    if rest or product < 1:
        raise ValueError(f"points must be a multiple of {len(_SEXES) * len(_PLURALITIES)}: {points!r}")
    # The most even factors: an axis of age and one of weeks, about equally fine.
    ages = next(number for number in range(math.isqrt(product), 0, -1) if product % number == 0)
    return ages, product // ages


def _steps(low: float, high: float, count: int) -> list[float]:
    return np.round(np.linspace(low, high, count), 6).tolist()


def _word_axes(points: int) -> list[Axis]:
    tens = points // WORDS
    varied = len(str(tens)) - 1
    if points != WORDS * 10**varied or varied >= WORD_FEATURES:
        raise ValueError(f"points must be {WORDS:,} times a power of ten: {points!r}")
    counts = [WORDS, *[10] * varied, *[1] * (WORD_FEATURES - 1 - varied)]
    return [_axis(f"word_{index:02d}", [word(i) for i in range(count)]) for index, count in enumerate(counts)]


def _axis(name: str, values: list[str] | list[float]) -> Axis:
    return Axis(name, "values", pa.table({name: pa.array(values)}))
