"""A night's examples against the schema and the nights before: planted faults are caught, named, and nothing else is."""

import json
import pathlib

import pytest
from conftest import NATALITY
from google.protobuf import text_format
from planted_faults import COLUMNS, Nights, in_grams, rows, shuffled_labels, swapped, third_missing, without
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from configs.errors import JobError


@pytest.fixture
def nights(tmp_path):
    """Makes the nights of a job; the first one's rows are good, and published."""

    def make(*overrides):
        made = Nights(tmp_path, *overrides)
        assert made.lines(1, rows(1)) == []
        return made

    return make


def test_a_night_like_the_last_raises_no_alarm(nights):
    assert nights().lines(2, rows(2)) == []


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            in_grams,
            [
                r"WARNING schema.weight_pounds: 100.0% of weight_pounds in the train split is outside ",
                r"WARNING drift.features.weight_pounds: the Jensen-Shannon divergence is ",
            ],
        ),
        (
            swapped("plurality", "Single(1)", "Twins(2)"),
            [
                r"WARNING drift.features.plurality: the L-infinity distance is 0.9",
                r"WARNING drift.features.plurality: the change of the label's means, in its deviations, is ",
            ],
        ),
        (
            swapped("is_male", "True", "False"),  # equally frequent, so that only the label tells
            [r"WARNING drift.features.is_male: the change of the label's means, in its deviations, is 0."],
        ),
        (
            third_missing("mother_age"),
            [
                r"WARNING schema.mother_age: mother_age is missing in 33.",
                r"WARNING drift.features.mother_age: the change of the missing share is 0.3",
            ],
        ),
        (
            without("plurality", "Twins(2)"),
            [r"WARNING drift.features.plurality: no row tonight has 'Twins(2)' (1."],
        ),
        (
            lambda table: rows(1),
            [r"WARNING drift.on_stale: the 8,000 rows are those of 2026-01-01 again; is the source up to date?"],
        ),
    ],
    ids=["grams", "swapped", "swapped alike", "third missing", "category gone", "stale"],
)
def test_planted_faults_are_caught_and_named(nights, plant, expected):
    found = nights().lines(2, plant(rows(2)))
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_shuffled_labels_show_where_a_word_has_lost_its_meaning(nights):
    """Words that few rows have tell nothing; the evaluation is what catches it in any data."""
    found = nights().lines(2, shuffled_labels(rows(2)))
    assert [line.partition(": ")[0] for line in found] == ["WARNING drift.features.plurality"]


@pytest.mark.parametrize(
    ("settings", "plant", "refused"),
    [
        (["drift.on_breach=block"], in_grams, ["drift.features.weight_pounds"]),
        (["drift={on_breach: block, features: {weight_pounds: 1}}"], in_grams, []),
        (["drift.on_stale=block"], lambda table: rows(1), ["drift.on_stale"]),
        (["drift.on_stale=ignore"], lambda table: rows(1), []),
        (["drift.on_breach=block"], swapped("is_male", "True", "False"), ["drift.features.is_male"]),
    ],
    ids=["block", "a column of its own", "stale blocks", "stale is ignored", "swapped blocks"],
)
def test_what_blocks_is_for_the_job_to_say(nights, settings, plant, refused):
    made = nights(*settings)
    found = made.lines(2, plant(rows(2)))
    assert [line.split()[1].rstrip(":") for line in found if line.startswith("ERROR")] == refused


def test_a_sample_is_the_same_every_night(nights):
    made = nights("source={kind: sample, rows: 8000}")
    assert made.lines(2, rows(1)) == []


def test_drift_is_from_every_one_of_the_last_nights(nights):
    made = nights("drift={nights: 2}")
    assert "drift.features.weight_pounds" in " ".join(made.lines(2, in_grams(rows(2))))
    found = made.lines(3, rows(3))
    assert [line.split(":")[0] for line in found] == ["WARNING schema.weight_pounds"], "like the night before last"
    run, _ = made.run(4, in_grams(rows(4)))
    against = {entry["against"] for entry in json.loads(pathlib.Path(run.file("distances.json")).read_text())["drift"]}
    assert against == {"2026-01-02", "2026-01-03"}


def test_only_published_nights_count(nights):
    made = nights()
    made.lines(2, in_grams(rows(2)), publish=False)
    assert made.lines(3, rows(3)) == []


def test_a_late_night_is_held_against_earlier_ones_only(nights):
    made = nights()
    made.lines(5, in_grams(rows(5)))
    assert made.lines(3, rows(3)) == []


def test_training_is_due_on_drift_from_the_models_night(nights):
    made = nights("model.training.every=drift")
    assert not made.run(2, rows(2), publish=False)[1].training_is_due
    _, checks = made.run(3, in_grams(rows(3)), publish=False)
    assert checks.training_is_due
    assert checks.training_drift.startswith("weight_pounds: the Jensen-Shannon divergence is ")


def test_distances_are_written_breached_or_not(nights):
    run, _ = nights().run(2, rows(2))
    tree = json.loads(pathlib.Path(run.file("distances.json")).read_text())
    assert tree["skew"] == tree["training"] == []
    entry = next(entry for entry in tree["drift"] if entry["measure"] == "jensen_shannon")
    assert set(entry) == {
        "feature", "measure", "distance", "threshold", "on_breach", "breached", "about", "against",
    }  # fmt: skip
    assert (entry["feature"], entry["against"], entry["breached"]) == ("mother_age", "2026-01-01", False)
    assert 0 < entry["distance"] < 0.01 < 0.1 < entry["threshold"] < 0.11
    assert {entry["feature"] for entry in tree["drift"]} == set(COLUMNS) - {"hashmonth"}


def test_anomalies_open_as_the_proto_that_they_are(nights):
    run, _ = nights().run(2, third_missing("mother_age")(rows(2)))
    text = pathlib.Path(run.file("anomalies.pbtxt")).read_text()
    anomalies = text_format.Parse(text, anomalies_pb2.Anomalies())
    info = anomalies.anomaly_info["mother_age"]
    assert (list(info.path.step), info.severity) == (["mother_age"], anomalies_pb2.AnomalyInfo.WARNING)
    kind = anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_FRACTION_PRESENT
    assert [reason.type for reason in info.reason] == [kind, kind]
    assert [feature.name for feature in anomalies.baseline.feature] == list(COLUMNS)
    measured = {"/".join(entry.path.step): entry.drift_measurements for entry in anomalies.drift_skew_info}
    assert set(measured) == {"is_male", "mother_age", "plurality", "gestation_weeks", "weight_pounds"}
    assert [entry.threshold > entry.value for entry in measured["plurality"]] == [True]


@pytest.fixture
def kept(tmp_path, nights):
    """Nights of a job that keeps the schema of its first night."""
    path = tmp_path / "natality.pbtxt"
    path.write_bytes(pathlib.Path(nights().run(1, rows(1))[0].file("schema.pbtxt")).read_bytes())
    made = Nights(tmp_path, f"schema={path}")
    made.path = path
    return made


def test_a_schema_that_the_team_keeps_refuses(kept):
    assert kept.lines(2, rows(2)) == []
    found = kept.lines(3, in_grams(rows(3)))
    assert found[0].startswith("ERROR schema.weight_pounds: 100.0% of weight_pounds in the train split is outside ")
    assert found[1].startswith("WARNING drift.features.weight_pounds: ")


def test_a_schema_that_is_not_there_refuses_and_says_how_to_keep_one(tmp_path):
    found = Nights(tmp_path, "schema=nowhere.pbtxt").lines(1, rows(1))
    assert found == [
        f"ERROR schema: nowhere.pbtxt is not there; `foretable schema {NATALITY} --write` writes there what "
        "tonight's examples look like, to be read and kept"
    ]


def test_a_file_that_is_no_schema_is_the_jobs_mistake(kept):
    kept.path.write_text("feature { nam: 1 }")
    with pytest.raises(JobError, match=r"natality\.pbtxt:1:11 : .*nam.*expected the text form of"):
        kept.lines(2, rows(2))


def test_columns_that_only_split_may_be_new_every_night(kept):
    hashmonth = next(
        feature
        for feature in text_format.Parse(kept.path.read_text(), schema_pb2.Schema()).feature
        if feature.name == "hashmonth"
    )
    assert hashmonth.WhichOneof("domain_info") is None
