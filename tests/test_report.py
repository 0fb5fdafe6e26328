"""The report: every kind of night gives one page that stands alone, and its numbers are those of the table and the files."""

import dataclasses
import html
import itertools
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import AXES, DAY, prediction
from report_nights import ONE_DAY, changes_tree, make_job, statistics_text, write_night

from beam_jobs.notifying import night_news
from beam_jobs.report import writing
from beam_jobs.report.constant_predictor import constant_metrics
from beam_jobs.report.feature_statistics import FeatureStatistics, read_statistics
from beam_jobs.report.parts import Note
from beam_jobs.report.queries import BINS, Tables
from beam_jobs.report.sections.curves import curves_section
from beam_jobs.report.sections.distributions import distributions_section, shared_edges
from beam_jobs.report.sections.predictions import predictions_section
from beam_jobs.report.sections.quality import quality_section
from beam_jobs.report.sections.verdict import make_verdict
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import fraction_text, number
from beam_jobs.report.writing import MOST_BYTES, SECTIONS, write_report
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.workspace.outcome import Outcome
from transforms.scoring.shards import TableColumn

ROOT = pathlib.Path(__file__).parent.parent
KINDS = ("regression", "binary", "multiclass", "foreign")


def warehouse_of(folder):
    return DuckDBWarehouse(str(folder / "natality" / "natality.duckdb"))


def page_of(folder, run):
    return pathlib.Path(write_report("job.yaml", run.path, warehouse_of(folder))).read_text(encoding="utf-8")


def subject_of(folder, run):
    return Subject.of("job.yaml", run.path, warehouse_of(folder))


def sections_of(page):
    return re.findall(r'<section id="([^"]+)"', page)


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<style>.*?</style>", "", page))).split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_each_kind_of_night_is_whole_and_stands_alone(tmp_path, kind, caplog):
    write_night(tmp_path, kind, run_id="r0", date=DAY - ONE_DAY, night_value=1)
    run = write_night(tmp_path, kind)
    page = page_of(tmp_path, run)
    trained = ["examples", "features", "anomalies", "quality"] if kind != "foreign" else []
    assert sections_of(page) == ["stages", *trained, "space", "predictions", "curves", "history", "lineage"]
    assert "cannot be made" not in page
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert len(page.encode()) < MOST_BYTES
    assert "<script" not in page
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) == {
        "data:,",
        *(f"#{name}" for name in sections_of(page)),
    } | set(re.findall(r'xlink:href="([^"]*)"', page))
    for drawing in re.findall(r"(?s)<svg.*?</svg>", page):
        tree = ElementTree.fromstring(drawing)
        assert tree.get("role") == "img"
        assert tree.get("aria-label", "").endswith(".")
        names = {element.get("id") for element in tree.iter()}
        for link in re.findall(r'(?:url\(#|xlink:href="#)([^")]+)', drawing):
            assert link in names, link
    assert len(re.findall(r'\bid="([^"]+)"', page)) == len(set(re.findall(r'\bid="([^"]+)"', page)))


def test_what_users_write_is_text_and_never_markup(tmp_path):
    words = (('</text><b onclick="x">', 60), ("a&b", 40))
    run = write_night(tmp_path)
    pathlib.Path(run.path, "statistics.pbtxt").write_text(statistics_text(words=words))
    page = page_of(tmp_path, run)
    assert "<b>" not in page
    assert "<b onclick" not in page
    assert 'Expected weight <at birth> & "more"' in text_of(page)
    assert "weeks: '<b>' is no number" in text_of(page)


def test_the_verdict_comes_first_with_the_numbers(tmp_path):
    run = write_night(tmp_path)
    text = text_of(page_of(tmp_path, run))
    assert "✓ Published 24 rows, verified; readers see them in natality_predictions Nothing stopped it, but " in text
    assert "but look at 1 warning about the examples (see Anomalies). rows" in text
    assert "mae 0.75 a constant answer: 0.9" in text
    assert "largest drift 150 % of its threshold, at weeks" in text


def test_what_warns_is_told_at_the_top_and_to_the_hooks(tmp_path):
    warning = "the model is no better than a constant answer: r2 is 0"
    run = write_night(tmp_path)
    pathlib.Path(run.path, "anomalies.pbtxt").unlink()
    assert "Nothing has to be done." in text_of(page_of(tmp_path, run))
    marker = run.read_marker("blessing.json")
    pathlib.Path(run.path, "blessing.json").write_text(json.dumps(marker | {"warnings": [warning]}))
    tree = changes_tree() | {"verdict": "passed", "refusals": []}
    tree["checks"] = [tree["checks"][0] | {"name": "typo", "passed": True, "of": 0, "warning": "no row is judged"}]
    pathlib.Path(run.path, "changes.json").write_text(json.dumps(tree))
    subject = subject_of(tmp_path, run)
    verdict = make_verdict(subject)
    assert verdict.todo == "Nothing stopped it, but look at 2 warnings."
    assert verdict.notes.lines == (warning, "contract typo: no row is judged")
    assert Note((warning,), "warn") in quality_section(subject).blocks
    outcome = Outcome("published", 0, "", None).to_json()
    news = night_news("natality", "2024-01-01", "r1", outcome, subject.summary.to_json())
    assert news["warnings"] == [warning, "contract typo: no row is judged"]
    assert text_of(page_of(tmp_path, run)).count(warning) == 2


def test_a_column_has_drifted_if_it_is_far_from_each_of_the_last_nights(tmp_path):
    run = write_night(tmp_path)
    section = distributions_section(subject_of(tmp_path, run))
    assert (section.tone, "weeks moved over the threshold" in section.lead) == ("warn", True)
    path = pathlib.Path(run.path, "distances.json")
    tree = json.loads(path.read_text())
    tree["drift"][1] |= {"distance": 0.01, "breached": False}  # like the night before last
    path.write_text(json.dumps(tree))
    subject = subject_of(tmp_path, run)
    section = distributions_section(subject)
    assert (section.tone, "none moved over its threshold" in section.lead) == ("", True)
    assert (subject.summary.drift, subject.summary.drifted_feature) == (0.5, "weeks")


def test_predictions_are_counted_over_the_whole_table(tmp_path):
    write_night(tmp_path, run_id="r0", date=DAY - ONE_DAY, night_value=1)
    run = write_night(tmp_path)
    section = predictions_section(subject_of(tmp_path, run))
    picture = section.blocks[0].left[0].pictures[0]
    tonight = [prediction(position) for position in range(24)]
    before = [prediction(position, 1) for position in range(24)]
    assert picture.alternative.startswith(
        f"Mean {number(np.mean(tonight))} ({number(np.mean(before))} on 2023-12-31); "
    )
    numbers = section.blocks[0].right[0]
    assert [header.text for header in numbers.headers] == ["", "tonight", "2023-12-31"]
    assert [cell if isinstance(cell, str) else cell.text for cell in numbers.rows[0]] == [
        "mean",
        number(np.mean(tonight)),
        number(np.mean(before)),
    ]
    shares = [row[1].text for row in numbers.rows[4:]]
    assert shares[0] == "100 %"  # the night before lies far above
    assert shares[1:] == ["0 %"] * 9


def test_a_curve_is_read_from_the_table_at_the_typical_point(tmp_path):
    run = write_night(tmp_path)
    subject = subject_of(tmp_path, run)
    section = curves_section(subject)
    # Most rows have the sex True, the median of the weeks is 38.25, and that of the children 2.
    assert section.lead.startswith(
        "The prediction as one feature varies and all else stays at sex True (most frequent), "
    )
    assert "weeks 38.25 (median) and children 2 (median)" in section.lead
    pictures = {picture.title: picture for block in section.blocks[:-1] for picture in block.pictures}
    assert list(pictures) == ["sex", "weeks", "children"]  # by falling effect
    expected = {
        "sex": {"True": (0, 1, 1), "False": (1, 1, 1), "missing": (2, 1, 1)},
        "weeks": {"38": (0, 0, 1), "38.25": (0, 1, 1), "38.5": (0, 2, 1), "missing": (0, 3, 1)},
        "children": {"1": (0, 1, 0), "2": (0, 1, 1)},
    }
    for name, points in expected.items():
        found = {row[0].text: row[1].text for row in pictures[name].table.rows}
        assert found == {word: number(prediction(8 * a + 2 * b + c)) for word, (a, b, c) in points.items()}
    assert pictures["children"].alternative == f"From {number(prediction(2))} at 1 to {number(prediction(3))} at 2."


def test_a_curve_says_which_values_are_not_in_the_table(tmp_path):
    excluded = {"exclude": "sex = 'False'", "is_excluded": lambda point: point["sex"] == "False"}
    run = write_night(tmp_path, **excluded)
    pictures = curves_section(subject_of(tmp_path, run)).blocks[0].pictures
    (sex,) = [picture for picture in pictures if picture.title == "sex"]
    assert sex.alternative.endswith("1 value of 3 not in the table here.")


def test_intervals_are_steps_and_the_missing_value_is_apart(tmp_path):
    columns = [TableColumn(f"weeks_{end}", "float", "key") for end in ("from", "to")]
    columns.append(TableColumn("weeks_is_missing", "bool", "key"))
    axes = {"weeks": {"weeks_from": [None, 38.2, 40.0, None], "weeks_to": [38.2, 40.0, None, None], "weeks_is_missing": [False, False, False, True]}}  # fmt: skip
    changes = {"features": {"weeks": {"type": "float", "missing": 38, "transforms": [{"kind": "buckets", "edges": [38.2, 40]}]}}, "input_space": {"axes": {"weeks": {"buckets": True}}}}  # fmt: skip
    output = TableColumn("weight", "float", "output")
    from nights import make_night, publish

    run = write_night(tmp_path, until="plan", job_changes=changes)
    (tmp_path / "natality" / str(DAY) / "r1" / "axes").rename(tmp_path / "unused")
    (tmp_path / "natality" / str(DAY) / "r1" / "predictions").rename(tmp_path / "unused_too")
    night = make_night(
        tmp_path / "made", axes=axes, columns=(*columns, output), intervals_of=("weeks",), run_id="r1", job="natality"
    )
    publish(warehouse_of(tmp_path), night)
    pictures = curves_section(subject_of(tmp_path, run)).blocks[0].pictures
    table = {row[0].text: row[1].text for row in pictures[0].table.rows}
    assert table == {"(-inf, 38.2)": "0", "[38.2, 40)": "0.125", "[40, inf)": "0.25", "missing": "0.375"}


def test_a_table_of_given_rows_has_no_curves(tmp_path):
    run = write_night(tmp_path)
    plan = json.loads(pathlib.Path(run.path, "plan.json").read_text())
    plan["plan"]["axes"][0]["kind"] = "rows"
    pathlib.Path(run.path, "plan.json").write_text(json.dumps(plan))
    section = curves_section(subject_of(tmp_path, run))
    assert section.blocks == ()
    assert "no feature can be varied alone" in section.lead


def test_arrays_and_many_words_are_not_drawn_whole(tmp_path):
    outputs = (TableColumn("weight", "string", "output"), TableColumn("lie", "float[]", "output"))
    axes = AXES | {"weeks": {"weeks": [float(value) for value in range(40)]}}
    arrays = lambda rows: [(place, row | {"lie": [1.0, 2.0]}) for place, row in rows]  # noqa: E731
    run = write_night(tmp_path, "foreign", outputs=outputs, axes=axes, rewrite=arrays)
    section = predictions_section(subject_of(tmp_path, run))
    table = section.blocks[0].right[0]
    assert len(table.rows) == 30  # of 240 different answers
    assert section.blocks[1].lines == ("Not pictured: lie (arrays, or beyond the first 12).",)
    assert "no feature" not in text_of(page_of(tmp_path, run))


def test_the_changes_are_told_with_slices_and_movers(tmp_path):
    run = write_night(tmp_path, until="precompute")
    pathlib.Path(run.path, "changes.json").write_text(json.dumps(changes_tree()))
    text = text_of(page_of(tmp_path, run))
    assert "Against the night of 2023-12-31: 25.0 % of 24 common rows changed, 2 new, 3 gone." in text
    assert "check 'changes.weight' failed: 6 of 24 rows changed" in text
    assert "sex = True 8 0 0 50.0 % 0.5" in text
    assert (
        "The 1 rows in which weight moved farthest sex weeks children before tonight change True 38.25 1 4 6.5 +2.5"
        in text
    )
    assert "from −1 to 2.5, median 0.25." in text
    assert "not judged" not in text
    assert "1 row in" not in text
    tree = changes_tree() | {"quantile_rows": 3}
    tree["checks"].append(tree["checks"][0] | {"name": "typo", "passed": True, "of": 0, "warning": "no row is judged"})
    pathlib.Path(run.path, "changes.json").write_text(json.dumps(tree))
    text = text_of(page_of(tmp_path, run))
    assert "not judged typo 6 of 24 rows changed; no row is judged" in text
    assert "from −1 to 2.5, median 0.25. What lies between is of 1 row in 3." in text


@pytest.mark.parametrize(
    ("until", "blessed", "word"),
    [
        ("prepare", True, "Unfinished in train"),
        ("evaluate", False, "Refused by evaluate"),
        ("precompute", True, "Unfinished in publish"),
    ],
)
def test_a_night_without_a_table_has_a_report_too(tmp_path, until, blessed, word):
    run = write_night(tmp_path, until=until, blessed=blessed)
    text = text_of(page_of(tmp_path, run))
    assert f"{word} " in text
    assert f"foretable run job.yaml --date {DAY}" in text
    assert "Nothing is published yet, so readers see nothing." in text


def test_a_refused_night_names_the_one_that_readers_see(tmp_path):
    write_night(tmp_path, run_id="r0", date=DAY - ONE_DAY)
    run = write_night(tmp_path, until="precompute")
    outcome = {"status": "refused", "exit_code": 3, "line": "check failed; and another", "stage": "publish"}
    pathlib.Path(run.path, "outcome.json").write_text(
        json.dumps(outcome | {"finished_at": "2024-01-01T03:00:00+00:00"})
    )
    verdict = make_verdict(subject_of(tmp_path, run))
    assert (verdict.word, verdict.tone, verdict.lines) == (
        "Refused by publish",
        "warn",
        ("check failed", "and another"),
    )
    assert verdict.todo.startswith("Readers see the night of 2023-12-31, 24 rows. ")
    assert verdict.commands.lines[1] == f'foretable publish job.yaml --date {DAY} --accept CHECK --reason "…"'


@pytest.mark.parametrize("broken", ["statistics.pbtxt", "metrics.json", "distances.json", "changes.json", "anomalies.pbtxt", "training.json", "bad_rows.jsonl"])  # fmt: skip
def test_a_broken_or_missing_file_costs_its_own_part_alone(tmp_path, broken):
    run = write_night(tmp_path)
    pathlib.Path(run.path, broken).write_text("{ no json and no proto")
    assert {"stages", "space", "predictions", "curves", "lineage"} <= set(sections_of(page_of(tmp_path, run)))
    pathlib.Path(run.path, broken).unlink()
    assert {"stages", "space", "predictions", "curves", "lineage"} <= set(sections_of(page_of(tmp_path, run)))


def test_a_run_directory_with_nothing_but_its_job_has_a_report(tmp_path):
    run = write_night(tmp_path, until="prepare")
    for path in pathlib.Path(run.path).iterdir():
        if path.is_file() and path.name != "job.json":
            path.unlink()
    page = pathlib.Path(write_report("job.yaml", run.path, None)).read_text()
    assert sections_of(page) == ["stages", "history", "lineage"]


def test_a_section_that_fails_says_so_in_its_place(tmp_path, monkeypatch):
    run = write_night(tmp_path)

    def fail(subject):
        raise ValueError("<no> way")

    monkeypatch.setitem(writing.SECTIONS, "Predictions", fail)
    page = page_of(tmp_path, run)
    assert "This part of the report cannot be made: ValueError: <no> way" in text_of(page)
    assert len(sections_of(page)) == len(SECTIONS) - 1  # there is no changes.json


@settings(max_examples=200, deadline=None)
@given(
    values=st.dictionaries(st.integers(-50, 50).map(float), st.integers(1, 1000), min_size=1),
    bins=st.integers(1, 12),
)
def test_every_value_falls_in_one_bin(values, bins):
    stats = FeatureStatistics("x", sum(values.values()), 0, buckets=tuple((v, v, c) for v, c in sorted(values.items())))
    edges = np.linspace(min(values) - 0.5, max(values) + 0.5, bins + 1)
    expected = np.histogram(list(values), edges, weights=list(values.values()))[0]
    np.testing.assert_allclose(stats.rows_between(edges), expected)


@settings(max_examples=100, deadline=None)
@given(
    edges=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20, unique=True).map(sorted),
    bins=st.integers(1, 30),
)
def test_no_row_of_a_wide_bucket_is_lost(edges, bins):
    buckets = tuple((low, high, 10.0) for low, high in itertools.pairwise(edges))
    stats = FeatureStatistics("x", 10 * len(buckets), 0, buckets=buckets)
    rows = stats.rows_between(np.linspace(edges[0], edges[-1], bins + 1))
    assert rows.sum() == pytest.approx(10 * len(buckets))


def test_bins_lie_around_whole_numbers_and_leave_a_long_tail_out():
    def stats_of(values):
        return FeatureStatistics("x", 10 * len(values), 0, buckets=tuple((v, v, 10) for v in values))

    assert shared_edges([stats_of([3.0, 5.0]), stats_of([4.0])]).tolist() == [2.5, 3.5, 4.5, 5.5]
    tail = FeatureStatistics("x", 1000, 0, buckets=((0.0, 1.0, 500), (1.0, 2.0, 495), (2.0, 1000.0, 5)))
    assert (shared_edges([tail])[0], shared_edges([tail])[-1]) == (1.0, 2.0)


def test_the_constant_predictor_is_what_a_direct_computation_gives(tmp_path):
    run = write_night(tmp_path, "binary")
    subject = subject_of(tmp_path, run)
    labels = np.array([1] * 5 + [0] * 15)
    found = constant_metrics(subject, {"label_mean": labels.mean()}, overall=True)
    probability = 0.25  # the mean in the train split
    expected = -np.mean(labels * np.log(probability) + (1 - labels) * np.log(1 - probability))
    assert found == {"auc": 0.5, "accuracy": 0.75, "log_loss": pytest.approx(expected)}
    run = write_night(tmp_path / "classes", "multiclass")
    found = constant_metrics(subject_of(tmp_path / "classes", run), {}, overall=True)
    assert found == {"accuracy": 0.75, "log_loss": pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))}


def test_the_warehouse_counts_as_numpy_does(tmp_path):
    run = write_night(tmp_path)
    subject = subject_of(tmp_path, run)
    tables = Tables.of(subject.warehouse, subject.job)
    tonight = np.array([prediction(position) for position in range(24)])
    (weight,) = [column for column in subject.record.columns if column.role == "output"]
    assert tables.ranges(subject.record, [weight]) == {"weight": (tonight.min(), tonight.max(), tonight.mean())}
    found = tables.histogram(subject.record, "weight", tonight.min(), tonight.max())
    assert found == np.histogram(tonight, np.linspace(tonight.min(), tonight.max(), BINS + 1))[0].tolist()
    assert tables.values(subject.record, "sex") == [("False", 8), ("True", 8), (None, 8)]


def test_keys_are_found_to_the_last_bit(tmp_path):
    awkward = [0.1 + 0.2, 27.3, 1e-300, 1 / 3]
    axes = {"sex": {"sex": ["it's", 'a "b"', None]}, "weeks": {"weeks": awkward}, "children": {"children": [1]}}
    run = write_night(tmp_path, axes=axes)
    subject = subject_of(tmp_path, run)
    tables = Tables.of(subject.warehouse, subject.job)
    for place, weeks in enumerate(awkward):
        for first, sex in enumerate(axes["sex"]["sex"]):
            rows = tables.line(subject.record, ["children"], ["weight"], {"sex": sex, "weeks": weeks}, 10)
            assert rows == [{"children": 1, "weight": prediction(4 * first + place)}]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.75, "0.75"), (-1.175, "−1.175"), (0.0, "0"), (1234.4, "1234"), (12345.6, "12,346"), (1234567.0, "1,234,567"), (1e-9, "1e-09"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert number(value) == text


def test_a_small_fraction_never_reads_as_none_or_all():
    assert [fraction_text(part) for part in (0, 1e-9, 0.0123, 0.5, 0.999999, 1, 12.5)] == [
        "0 %",
        "under 0.01 %",
        "1.23 %",
        "50.0 %",
        "over 99.99 %",
        "100 %",
        "1,250 %",
    ]


def test_statistics_that_are_no_proto_are_none():
    assert read_statistics("datasets { oh no") == {}
    assert read_statistics(None) == {}


def run_report(folder, *arguments, code=0):
    job_file = folder / "job.yaml"
    if not job_file.exists():
        job_file.write_text(json.dumps(make_job(folder).model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-X", "importtime", "-m", "beam_jobs", "report", str(job_file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return done


def test_the_command_writes_the_last_night_without_tensorflow(tmp_path):
    write_night(tmp_path, run_id="r0", date=DAY - ONE_DAY)
    run = write_night(tmp_path, until="evaluate", blessed=False)
    done = run_report(tmp_path, "--json")
    assert json.loads(done.stdout) == {
        "report": str(pathlib.Path(run.path, "report.html")),
        "run_date": str(DAY),
        "run_id": "r1",
        "status": "refused",
    }
    assert "Refused by evaluate" in pathlib.Path(run.path, "report.html").read_text()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not {"tensorflow", "apache_beam", "keras", "tfx_bsl"} & imported
    output = tmp_path / "elsewhere" / "page.html"
    done = run_report(tmp_path, "--date", str(DAY - ONE_DAY), "--output", str(output))
    assert "Published" in output.read_text()


def test_the_command_says_that_there_is_no_night(tmp_path):
    done = run_report(tmp_path, code=3)
    assert "no night yet; run `foretable run" in done.stderr
    write_night(tmp_path)
    assert "no night of 2020-01-01; run" in run_report(tmp_path, "--date", "2020-01-01", code=3).stderr


def test_the_record_of_a_night_that_readers_no_longer_see(tmp_path):
    run = write_night(tmp_path)
    write_night(tmp_path, run_id="r2", date=DAY + ONE_DAY)
    verdict = make_verdict(subject_of(tmp_path, run))
    assert verdict.lines == (
        f"24 rows, verified; readers of natality_predictions see the night of {DAY + ONE_DAY} by now",
    )
    assert dataclasses.is_dataclass(verdict)
