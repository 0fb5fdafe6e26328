"""The one small hierarchy of errors that users see; each carries the exit code the command line ends with.

A message is one line: lower case, the dotted path or the file, the value with `!r`, what was expected, what mends it.
"""


class ForetableError(Exception):
    """Something went wrong that the user can understand and mend."""

    exit_code = 5


class JobError(ForetableError):
    """The job file or the command line is wrong.

    Attributes:
        problems: one line each.
    """

    exit_code = 2

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = problems


class RefusedError(ForetableError):
    """A gate said no: bad examples, no blessing, too many points, an incomplete table. Nothing was published."""

    exit_code = 3


class MissError(ForetableError):
    """The key is outside the published table."""

    exit_code = 4
