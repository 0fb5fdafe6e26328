"""The checks within `prepare`: what refuses a night, what becomes of training, and the command about the schema."""

import datetime
import json
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pytest
from conftest import NATALITY, ROOT, ListedConsole
from google.protobuf import text_format
from planted_faults import Nights, in_grams, replaced, rows, swapped
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from beam_jobs.night import Night, run_stage
from beam_jobs.stages import prepare
from configs.errors import RefusedError
from configs.loading import load_job


class Prepared(Nights):
    """Nights whose `prepare` really runs, on CSV files; the first one has left its statistics and a model."""

    def __init__(self, folder, *overrides):
        super().__init__(folder, "model.training.every=manual", *overrides)
        self.overrides = overrides
        first, _ = self.run(1, rows(1))
        self.leave_model(first)

    def job_of(self, *overrides):
        """The job, with further settings."""
        base = ["model.training.every=manual", *self.overrides, *overrides]
        return load_job(
            NATALITY, [f"workspace={self.folder}", f"source={{kind: csv, files: [{self.folder}/tonight.csv]}}", *base]
        )

    def prepare(self, day, table, *overrides):
        """Runs the stage; returns the night and the marker."""
        pyarrow.csv.write_csv(table, self.folder / "tonight.csv")
        night = Night.of(self.job_of(*overrides), NATALITY, datetime.date(2026, 1, day), ListedConsole())
        self.night = night
        with night.working():
            return night, run_stage(prepare.STAGE, night)


@pytest.fixture
def nights(tmp_path):
    return Prepared(tmp_path)


def tree(night, name):
    return json.loads(pathlib.Path(night.run.file(name)).read_text())


def test_a_breach_that_blocks_refuses_before_anything_is_trained(nights):
    with pytest.raises(
        RefusedError, match=r"drift\.features\.weight_pounds: the Jensen-Shannon divergence is 0\.\d+, exp"
    ):
        nights.prepare(2, in_grams(rows(2)), "drift.on_breach=block")
    night = nights.night
    assert night.run.read_marker("examples.json") is None
    assert not pathlib.Path(night.run.file("transform_output")).exists()
    breached = [entry["feature"] for entry in tree(night, "distances.json")["drift"] if entry["breached"]]
    assert breached == ["weight_pounds"]
    assert "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH" in pathlib.Path(night.run.file("anomalies.pbtxt")).read_text()


def test_a_breach_that_warns_is_a_line(nights):
    night, marker = nights.prepare(2, in_grams(rows(2)))
    lines = [line for line in night.console.lines if "drift.features.weight_pounds: " in line]
    assert len(lines) == 1
    assert not marker["training_due"]


def test_skew_is_the_traffic_against_the_train_split(nights, tmp_path):
    asked = swapped("plurality", "Single(1)", "Twins(2)")(rows(3)).drop_columns(["weight_pounds", "hashmonth"])
    pyarrow.csv.write_csv(asked, tmp_path / "traffic.csv")
    settings = [f"traffic={{kind: csv, files: {tmp_path}/traffic.csv}}", "skew.on_breach=block"]
    with pytest.raises(RefusedError) as refused:
        nights.prepare(2, rows(2), *settings)
    assert str(refused.value).startswith("skew.features.plurality: the L-infinity distance is 0.9")
    assert "'Twins(2)' in 96.6% of the rows of the traffic, 1.4% of the train split" in str(refused.value)
    skew = tree(nights.night, "distances.json")["skew"]
    assert {entry["feature"] for entry in skew} == {"is_male", "mother_age", "plurality", "gestation_weeks"}
    assert [entry["feature"] for entry in skew if entry["breached"]] == ["plurality"]
    nights.prepare(2, rows(2), *settings, "skew.features={plurality: 1}")


@pytest.mark.parametrize("on_breach", ["block", "warn"])
def test_traffic_without_rows_does_not_pass_for_traffic_without_skew(nights, tmp_path, on_breach):
    (tmp_path / "traffic.csv").write_text("is_male,mother_age,plurality,gestation_weeks\n")
    settings = [f"traffic={{kind: csv, files: {tmp_path}/traffic.csv}}", f"skew.on_breach={on_breach}"]
    line = "traffic: the traffic has no good row, so that nothing can be held against the train split; expected some"
    if on_breach == "block":
        with pytest.raises(RefusedError) as refused:
            nights.prepare(2, rows(2), *settings)
        assert str(refused.value) == line
    else:
        night, _ = nights.prepare(2, rows(2), *settings)
        assert f"prepare      {line}" in night.console.lines
    assert "DATASET_LOW_NUM_EXAMPLES" in pathlib.Path(nights.night.run.file("anomalies.pbtxt")).read_text()


def test_training_is_due_when_the_examples_have_drifted(nights):
    """Not due, the model is reused and there is no transform graph; due, there is one."""
    settings = ["model.training.every=drift"]
    night, marker = nights.prepare(2, rows(2), *settings)
    assert (marker["training_due"], marker["transform_hash"]) == (False, None)
    assert marker["inputs"]["training"] == "on drift from model1 of 2026-01-01"
    night, marker = nights.prepare(3, in_grams(rows(3)), *settings)
    assert marker["training_due"]
    assert pathlib.Path(night.run.file("transform_output")).exists()
    said = [line for line in night.console.lines if "training is due on drift: weight_pounds: " in line]
    assert len(said) == 1
    nights.leave_model(night.run)  # as the train stage does: the night's own model is not what it drifted from
    with night.working():
        again = run_stage(prepare.STAGE, night)
    assert again["finished_at"] == marker["finished_at"]
    assert "done before" in night.console.lines[-1]


def test_an_edited_schema_is_checked_anew(nights, tmp_path):
    path = tmp_path / "natality.pbtxt"
    path.write_text(pathlib.Path(nights.folder, "natality/2026-01-01/000000000001/schema.pbtxt").read_text())
    night, _ = nights.prepare(2, rows(2), f"schema={path}")
    path.write_text(path.read_text() + "dataset_constraints { min_examples_count: 100000 }")
    with night.working(), pytest.raises(RefusedError, match=r"schema: 8,000 rows, expected 100,000 or more"):
        run_stage(prepare.STAGE, night)


def test_what_lies_outside_the_kept_range_is_counted_and_not_estimated(nights, tmp_path):
    """One weight in 8,000 on each side; the nearest quantiles would make it a share of the rows."""
    path = tmp_path / "natality.pbtxt"
    kept = pathlib.Path(nights.folder, "natality/2026-01-01/000000000001/schema.pbtxt").read_text()
    before, _, weight = kept.partition('name: "weight_pounds"')
    path.write_text(f'{before}name: "weight_pounds"{weight.replace("mass: 0.99", "mass: 0.995", 1)}')
    table = rows(2)
    weights = table["weight_pounds"].to_pylist()
    tonight = replaced(table, "weight_pounds", pa.array([0.01, 40.0, *weights[2:]]))
    night, _ = nights.prepare(2, tonight, f"schema={path}")
    statistics = text_format.Parse(
        pathlib.Path(night.run.file("statistics.pbtxt")).read_text(), statistics_pb2.DatasetFeatureStatisticsList()
    )
    counted = [
        bucket.sample_count
        for dataset in statistics.datasets
        for stats in dataset.features
        if stats.path.step[0] == "weight_pounds"
        for custom in stats.custom_stats
        if custom.name == "outside"
        for bucket in custom.histogram.buckets
    ]
    feature = next(f for f in text_format.Parse(kept, schema_pb2.Schema()).feature if f.name == "weight_pounds")
    low, high = feature.float_domain.min, feature.float_domain.max
    assert sum(counted) == sum(not low <= weight <= high for weight in tonight["weight_pounds"].to_pylist()) >= 2


def schema_command(folder, *arguments, code=0):
    command = [sys.executable, "-m", "beam_jobs", "schema", NATALITY, *arguments, "--set", f"workspace={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return done


def test_schema_shows_proposes_and_writes(tmp_path):
    nights, path = Nights(tmp_path), tmp_path / "natality.pbtxt"
    keeps = ("--set", f"schema={path}")
    nothing = schema_command(tmp_path, code=3)
    assert "run `foretable prepare" in nothing.stderr
    nights.run(1, rows(1))
    inferred = pathlib.Path(tmp_path, "natality/2026-01-01/000000000001/schema.pbtxt").read_text()
    unkept = schema_command(tmp_path)
    assert unkept.stdout == inferred
    assert "name a file for it in the job file, as `schema:`" in unkept.stderr
    assert "the job file names none" in schema_command(tmp_path, "--write", code=2).stderr
    written = schema_command(tmp_path, "--write", *keeps)
    assert f"{path}: written" in written.stderr
    assert path.read_text() == inferred
    assert "nothing to edit" in schema_command(tmp_path, "--update", *keeps).stderr
    path.write_text("# Kept by the ward.\n" + inferred.replace('  value: "Single(1)"\n', ""))
    proposed = schema_command(tmp_path, "--update", *keeps)
    assert '+  value: "Single(1)"' in proposed.stdout.splitlines()
    assert "-# Kept by the ward." in proposed.stdout.splitlines()  # the diff does not hide what the edit costs
    assert "is not of its domain" in proposed.stderr
    assert path.read_text().startswith("# Kept")
    schema_command(tmp_path, "--write", *keeps)
    assert path.read_text() == inferred


def test_the_schema_command_needs_neither_beam_nor_tensorflow(tmp_path):
    Nights(tmp_path).run(1, rows(1))
    code = f"""
import sys
from beam_jobs.schemas import propose_schema
from configs.loading import load_job
propose_schema(load_job({NATALITY!r}, ["workspace={tmp_path}"]), "job.yaml")
print([name for name in ("tensorflow", "apache_beam", "tfx_bsl") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def anomalies_of(night):
    text = pathlib.Path(night.run.file("anomalies.pbtxt")).read_text()
    return text_format.Parse(text, anomalies_pb2.Anomalies())


def test_a_column_that_came_or_went_is_told_on_the_night_that_sees_it(nights):
    """Though the job does not read it."""
    wide = rows(2).append_column("smoker", pa.array(["no"] * len(rows(2))))
    came = "source: smoker came into the source after the night of 2026-01-02; the job does not read it"
    went = "source: smoker left the source after the night of 2026-01-04; the job does not read it"
    new, gone = (anomalies_pb2.AnomalyInfo.Type.Value(f"SCHEMA_{kind}_COLUMN") for kind in ("NEW", "MISSING"))
    for day, table, told, types in (
        (2, rows(2), [], []),
        (3, wide, [came], [new]),
        (4, wide, [came], [new]),  # the night of the third was not published
        (5, wide, [], []),
        (6, rows(2), [went], [gone]),
    ):
        night, marker = nights.prepare(day, table)
        assert marker["source_columns"] == table.column_names
        assert [line.removeprefix("prepare").strip() for line in night.console.lines if "source: " in line] == told
        assert [reason.type for reason in anomalies_of(night).anomaly_info["smoker"].reason] == types
        if day in (2, 4):
            night.run.write_marker("published.json", {}, {}, 0)


def test_a_column_that_the_job_reads_and_that_is_gone_is_an_anomaly_too(nights):
    with pytest.raises(RefusedError, match=r"tonight\.csv: no column 'plurality'; its columns are ") as error:
        nights.prepare(2, rows(2).drop_columns(["plurality"]))
    (reason,) = anomalies_of(nights.night).anomaly_info["plurality"].reason
    assert reason.type == anomalies_pb2.AnomalyInfo.SCHEMA_MISSING_COLUMN
    assert reason.description == f"source: {error.value}"
