"""Sums of floats without rounding: the same to the last bit in whatever order the values, or parts of them, come.

A float64 is a whole number of 53 bits times a power of two. The whole numbers are added up as integers, by their power,
and the powers meet in one Python integer of as many bits as it takes; only the final quotient is rounded, once.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np

_MANTISSA_BITS = 53
_SHIFT = 1074 + _MANTISSA_BITS  # of the least power of two in any float64, made a whole number
_LIMB_BITS = 18
_LIMB_MASK = (1 << _LIMB_BITS) - 1
_MAX_VALUES = 1 << 16  # products of two limbs have 36 bits, so that so many of them add up exactly in a float64


@dataclasses.dataclass
class ExactMoments:
    """Number, sum and sum of squares of finite floats.

    Attributes:
        total: the sum, in units of 2**-1127.
        squares: the sum of the squares, in units of 2**-2254.
    """

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, values: np.ndarray) -> None:
        """Takes in finite float64 values, `[num_values]`."""
        for start in range(0, len(values), _MAX_VALUES):
            self._add_some(values[start : start + _MAX_VALUES])

    def merge(self, other: "ExactMoments") -> None:
        """Takes in what another has taken in."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        """The mean, rounded once; of at least one value."""
        return float(Fraction(self.total, self.count << _SHIFT))

    @property
    def std_dev(self) -> float:
        """The population's standard deviation, of at least one value; to the last bit but one."""
        spread = self.count * self.squares - self.total * self.total
        # A root of integers, as the variance itself may be beyond a float's range; 64 bits more than those that count.
        return float(Fraction(math.isqrt(spread << 128), self.count << (_SHIFT + 64)))

    def _add_some(self, values: np.ndarray) -> None:
        if not len(values):
            return
        fractions, exponents = np.frexp(values)
        whole = np.ldexp(fractions, _MANTISSA_BITS).astype(np.int64)
        # value = (high * 2**36 + middle * 2**18 + low) * 2**(exponent - 53), the sign being the high limb's.
        limbs = [
            (whole >> 2 * _LIMB_BITS).astype(np.float64),
            ((whole >> _LIMB_BITS) & _LIMB_MASK).astype(np.float64),
            (whole & _LIMB_MASK).astype(np.float64),
        ]
        least = int(exponents.min())
        powers = exponents - least
        shift = least - _MANTISSA_BITS + _SHIFT
        for i, left in enumerate(limbs):
            self.total += _at_powers(powers, left, 1) << (shift + _LIMB_BITS * (2 - i))
            for j, right in enumerate(limbs[i:], start=i):
                twice = 1 if i == j else 2
                product = twice * _at_powers(powers, left * right, 2)
                self.squares += product << (2 * shift + _LIMB_BITS * (4 - i - j))
        self.count += len(values)


def _at_powers(powers: np.ndarray, weights: np.ndarray, step: int) -> int:
    """Sum of `weights * 2**(step * powers)`, of whole weights that add up exactly in a float64."""
    sums = np.bincount(powers, weights=weights)
    return sum(int(sums[power]) << (step * int(power)) for power in np.flatnonzero(sums))
