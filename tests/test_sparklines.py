"""Series of numbers as a line of text."""

import pytest

from beam_jobs.commands.sparklines import sparkline


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([3.5, None, -1.0], "█·▁"),
        ([2, 2, 2], "▄▄▄"),
        ([None, None], "··"),
        ([], ""),
        ([1e-300, 1e300], "▁█"),
    ],
    ids=["steps", "one absent", "all the same", "none known", "empty", "far apart"],
)
def test_a_block_for_each_number(values, line):
    assert sparkline(values) == line
