"""A finding of the doctor, and how a check becomes one whatever it raises."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from configs.errors import ForetableError

Status = Literal["ok", "warn", "fail"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        status: a `warn` lets the job run; a `fail` would end it.
        mend: what to do; empty where nothing is to be done.
    """

    check: str
    status: Status
    found: str
    mend: str = ""


Check = Callable[[], Iterator[Finding]]


def findings_of(name: str, check: Check) -> list[Finding]:
    """What the check finds; where it cannot be made, that is a failure with the error's own line."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except (ForetableError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem, _, mend = said.partition("; ")
        found.append(Finding(name, "fail", problem, mend))
    return found
