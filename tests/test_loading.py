"""Job files: what is wrong comes out as one line with path, value, expectation and the nearest name."""

import pathlib

import pydantic
import pytest

from configs.cloud import BigQueryWarehouse
from configs.errors import JobError
from configs.loading import load_job, parse_job

JOB_FILES = sorted(pathlib.Path(__file__).parent.parent.glob("configs/*.yaml"))
NATALITY = str(next(path for path in JOB_FILES if path.name == "natality.yaml"))


def problems(*overrides):
    with pytest.raises(JobError) as caught:
        load_job(NATALITY, overrides)
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{NATALITY}: ") for line in caught.value.problems]


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: path.name)
def test_shipped_job_files_are_valid(path):
    assert load_job(path).name == path.stem.removesuffix("_gcp")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("source.rws=3", "source.rws: unknown setting (value 3); did you mean 'rows'?"),
        (
            "source.kind=cvs",
            "source: unknown kind 'cvs', expected one of sample, csv, parquet, tfrecord, bigquery; did you mean 'csv'?",
        ),
        ("source=null", "source: expected a mapping, got None"),
        ("features.mother_age.typ=float", "features.mother_age.typ: unknown setting (value 'float'); did you mean 'type'?"),
        (
            "features.mother_age.transforms.1.cont=4",
            "features.mother_age.transforms.1.cont: unknown setting (value 4); did you mean 'count'?",
        ),
        ("model.training.epochs=0", "model.training.epochs: 0: input should be greater than or equal to 1"),
        (
            "model.training.every=soon",
            "model.training.every: 'soon': expected run, drift, manual, or a number of days such as 7d",
        ),
        (
            "features.is_male.missing=3",
            "features.is_male: missing must be a non-empty string for a string feature, got 3",
        ),
        (
            "input_space.axes.plurality={foo: 1}",
            "input_space.axes.plurality: expected an axis with exactly one of values, buckets, range, vocabulary, distinct, rows",
        ),
        (
            "input_space.axes.mother_age={range: [1, 2], stp: 3}",
            "input_space.axes.mother_age.stp: unknown setting (value 3); did you mean 'step'?",
        ),
        (
            "input_space.axes.mother_age={vocabulary: true}",
            "input_space.axes.mother_age: 'vocabulary': expected a feature with a vocabulary transform; list values instead",
        ),
        ("crosses.0.features=[plural, is_male]", "crosses.0.features: 'plural': expected a string or int feature, or buckets; did you mean 'plurality'?"),
        ("label.name=is_male", "label.name: 'is_male': expected a name that is not a feature's"),
        ("label.type=string", "label.type: 'string': expected float or int for a regression task"),
        ("split.eval=7", "split.eval: 7: input should be less than 1"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(override, expected):
    assert expected in problems(override)


@pytest.mark.parametrize(
    ("labels", "is_valid"),
    [
        ({"team": "births-2_b"}, True),
        ({"team": "x" * 63, "k" * 63: "2026"}, True),
        ({"team": ""}, True),
        ({"équipe": "données", "チーム": "出生"}, True),
        ({"team": "Team A!"}, False),
        ({"team": "Births"}, False),
        ({"team": "x" * 64}, False),
        ({"team": "births\n"}, False),
        ({"k" * 64: "x"}, False),
        ({"7th": "x"}, False),
        ({"": "x"}, False),
    ],
    ids=lambda value: ascii(value)[:20] if isinstance(value, dict) else None,
)
def test_labels_are_what_google_cloud_takes(labels, is_valid):
    bigquery = {"kind": "bigquery", "project": "proj", "dataset": "births", "labels": labels}
    if is_valid:
        assert BigQueryWarehouse.model_validate(bigquery).labels == labels
        return
    with pytest.raises(pydantic.ValidationError, match="labels"):
        BigQueryWarehouse.model_validate(bigquery)


def test_every_mistake_is_reported_at_once():
    assert problems("nam=3", "source.rws=3") == [
        "source.rws: unknown setting (value 3); did you mean 'rows'?",
        "nam: unknown setting (value 3); did you mean 'name'?",
    ]


def test_a_feature_without_an_axis_is_named():
    (line,) = problems(
        "input_space.axes={is_male: {vocabulary: true}, mother_age: {values: [1]}, plurality: {vocabulary: true}}"
    )
    assert line.endswith("expected an axis for each feature; none for gestation_weeks")


def test_a_feature_in_two_axes_is_named():
    assert problems("input_space.axes.pairs={distinct: examples, columns: [is_male, plurality]}") == [
        "input_space.axes.pairs: 'is_male': expected each feature in one axis; axis 'is_male' has it too",
        "input_space.axes.pairs: 'plurality': expected each feature in one axis; axis 'plurality' has it too",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("source.rows", "--set 'source.rows': expected path=value, such as --set source.rows=1000"),
        ("name.x=1", "--set 'name.x=1': name is 'natality', expected a mapping"),
        ("crosses.7=1", "--set 'crosses.7=1': expected an index below 1, got '7'"),
        ("name=[", "--set 'name=[': the value is not valid YAML"),
    ],
)
def test_a_wrong_override_is_one_line(override, expected):
    assert problems(override) == [expected]


def test_overrides_reach_into_mappings_and_lists():
    job = load_job(
        NATALITY, ["source.rows=7", "features.mother_age.transforms.1.count=3", "model.network={hidden: [5]}"]
    )
    assert job.source.rows == 7
    assert job.features["mother_age"].transforms[1].count == 3
    assert job.model.network.hidden == (5,)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [1", ":1:6: not valid YAML: "),
        (b"- 1\n", ": expected a mapping of job settings, got list"),
        (b"\xff\xfe\x00", ": cannot read the job file: not UTF-8 text"),
    ],
)
def test_an_unreadable_file_is_one_line(tmp_path, content, expected):
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"{path}{expected}")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(JobError, match=r"nowhere.yaml: cannot read the job file: No such file or directory$"):
        load_job(tmp_path / "nowhere.yaml")


def test_the_digest_is_of_what_can_change_the_table():
    job = load_job(NATALITY)
    assert load_job(NATALITY, ["workspace=/elsewhere", "publish.retention_days=3"]).digest() == job.digest()
    assert load_job(NATALITY, ["source.rows=5"]).digest() != job.digest()


def test_a_job_survives_its_own_json():
    job = load_job(NATALITY)
    assert parse_job(job.model_dump(mode="json")) == job
