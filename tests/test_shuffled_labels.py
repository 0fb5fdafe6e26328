"""Labels that belong to other rows: nothing in a column shows it, and the evaluation catches it."""

import pyarrow.csv
import pytest
from conftest import FIRST_DATE, Workspace
from planted_faults import rows, shuffled_labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("evaluation.thresholds=[{metric: r2, lower_bound: 0.1}]", "r2 is "),
        ("evaluation.on_constant=block", "the model is no better than a constant answer: "),
    ],
    ids=["threshold", "on_constant"],
)
def test_shuffled_labels_are_refused(tmp_path, setting, reason):
    pyarrow.csv.write_csv(shuffled_labels(rows(1)), tmp_path / "shuffled.csv")
    job = Workspace(
        tmp_path / "workspace",
        f"source={{kind: csv, files: {tmp_path}/shuffled.csv}}",
        "model.training={epochs: 2, batch_size: 256}",
        "model.network.hidden=[8]",
        setting,
    )
    night = job.run("run", "--date", str(FIRST_DATE), code=3)
    assert "the model is no better than a constant answer: " in night.err
    refusal = night.err.splitlines()[-1]
    assert f" is not blessed: {reason}" in refusal
    assert not (job.run_path() / "published.json").exists()
