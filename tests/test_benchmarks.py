"""The benchmark: every path fills the same table, and what is measured is what is reported."""

import dataclasses
import json
import multiprocessing
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import changes, false_alarms, models, statistics
from benchmarks.cell import Cell, CellError, Measurement, measure, parquet_files
from benchmarks.measuring import TreeSample, cpu_seconds_at, read_clocks
from benchmarks.paths import PATHS, bare_loop
from benchmarks.report import Results, describe_run, read_results, short, summarize, to_markdown
from benchmarks.scoring import every_cell, expect_rate, rows_in_time
from benchmarks.spaces import SIZES, make_space
from benchmarks.work import Work
from transforms.columns import graph_inputs
from transforms.scoring.classes import ClassScorer
from transforms.scoring.engine import make_engine
from transforms.scoring.serving import load_model
from transforms.space.blocks import BLOCK_ROWS

DATA = pathlib.Path(__file__).parent.parent.parent / "shared/data"
POINTS = 2_000
LOOPS = tuple(name for name in PATHS if name.startswith("bare_loop"))
WRITERS = tuple(name for name in PATHS if name not in (*LOOPS, "ray_data"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A small model, built in its folder."""
    folder = str(tmp_path_factory.mktemp("models") / "small")
    models.build(models.MODELS["small"], folder)
    return folder


@pytest.fixture
def work(directory, tmp_path):
    return make_work(directory, str(tmp_path))


def make_work(directory, output):
    model = models.load_built_model("small", directory)
    return Work(model, make_space("small", POINTS), rows=POINTS - 100, directory=output, processes=1)


@pytest.fixture(scope="module")
def expected(directory):
    """The serving signature, called directly on the points."""
    model = models.load_built_model("small", directory)
    points = make_space("small", POINTS).columns(np.arange(POINTS - 100))
    types = {name: feature.type for name, feature in model.features.items()}
    inputs = {
        name: values.tolist() if values.dtype == object else values
        for name, values in graph_inputs(points, types).items()
    }
    predictions = load_model(model.model_dir).signatures["serving_default"](**inputs)["weight_pounds"].numpy()
    assert len(np.unique(predictions)) > 100
    return pa.table(points).append_column("weight_pounds", pa.array(predictions))


@pytest.mark.parametrize("name", LOOPS)
def test_a_bare_loop_scores_the_same(work, expected, name):
    batches = list(bare_loop.score_batches(work, int(name.rpartition("_")[2])))[1:]
    predictions = np.concatenate([batch["weight_pounds"] for batch in batches])
    np.testing.assert_allclose(predictions, expected["weight_pounds"].to_numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", WRITERS)
def test_every_path_writes_the_same_table(work, expected, name):
    check_table(PATHS[name], work, expected)


@pytest.mark.slow
def test_ray_data_writes_the_same_table(directory, tmp_path, expected):
    """In a process of its own: Ray dies where it forks one that has used gRPC."""
    pytest.importorskip("ray")
    arguments = (directory, str(tmp_path), expected)
    process = multiprocessing.get_context("spawn").Process(target=check_ray_data, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def check_ray_data(directory, output, expected):
    check_table(PATHS["ray_data"], make_work(directory, output), expected)


def check_table(path, work, expected):
    """Runs the path and compares what it wrote, in whatever order, with the expected table."""
    before = read_clocks().seconds
    score = path.prepare(work)
    assert score() == POINTS - 100
    assert before < work.clock_started().seconds < read_clocks().seconds
    assert all(path.endswith(".parquet") for path in parquet_files(work.directory))
    table = pa.concat_tables(pq.read_table(path) for path in parquet_files(work.directory))
    assert table.schema.equals(expected.schema)
    keys = [(key, "ascending") for key in work.space.column_names]
    table, wanted = table.sort_by(keys), expected.sort_by(keys)
    assert table.drop_columns("weight_pounds").equals(wanted.drop_columns("weight_pounds"))
    np.testing.assert_allclose(table["weight_pounds"].to_numpy(), wanted["weight_pounds"].to_numpy(), rtol=1e-6)


@pytest.mark.slow
def test_every_way_of_the_engine_fills_more_than_a_block_alike(tmp_path):
    """Classes are for full blocks only, of which the small table above has none."""
    models.build(models.MODELS["buckets"], str(tmp_path / "model"))
    model, space = models.load_built_model("buckets", str(tmp_path / "model")), make_space("buckets", 100_000)
    types = {name: feature.type for name, feature in model.features.items()}
    engine = make_engine(space, model.model_dir, types, model.outputs)
    assert isinstance(engine.scorer, ClassScorer)
    signature = load_model(model.model_dir).signatures["serving_default"]
    expected = [
        signature(**graph_inputs(space.columns(np.arange(*bounds)), types))["weight_pounds"].numpy()
        for bounds in ((0, BLOCK_ROWS), (BLOCK_ROWS, 100_000))
    ]
    keys = [(key, "ascending") for key in space.column_names]
    wanted = pa.table(space.columns(np.arange(100_000)))
    wanted = wanted.append_column("weight_pounds", pa.array(np.concatenate(expected))).sort_by(keys)
    for name in ("engine_columnar", "engine_factored", "engine"):
        (tmp_path / name).mkdir()
        work = Work(model, space, rows=100_000, directory=str(tmp_path / name), processes=1)
        assert PATHS[name].prepare(work)() == 100_000
        found = pa.concat_tables(pq.read_table(path) for path in parquet_files(work.directory))
        assert found.sort_by(keys).equals(wanted), name


def test_a_cell_is_measured_in_a_process_of_its_own(directory, tmp_path):
    cell = Cell("bare_loop_64", "small", POINTS, POINTS, directory, 1)
    measurement = measure(cell, 100, str(tmp_path))
    assert measurement.rows == POINTS
    assert 0 < measurement.seconds < measurement.start_up_seconds
    assert 0 < measurement.cpu_seconds < measurement.start_up_seconds
    assert 100e6 < measurement.peak_bytes < 20e9
    assert (measurement.written_bytes, measurement.planned_seconds) == (0, None)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_says_why(tmp_path):
    with pytest.raises(CellError, match=r"FileNotFoundError: .*benchmark.json"):
        measure(Cell("bare_loop_64", "small", POINTS, POINTS, str(tmp_path), 1), 100, str(tmp_path))


@pytest.mark.parametrize("model", models.MODELS)
@pytest.mark.parametrize("points", SIZES)
def test_spaces_have_exactly_the_points_and_features(model, points):
    space = make_space(model, points)
    assert space.cardinality == points
    assert space.column_names == tuple(models.MODELS[model].features)
    assert all(axis.table.group_by(axis.keys).aggregate([]).num_rows == axis.table.num_rows for axis in space.axes)


def test_the_examples_hold_every_word_of_every_vocabulary():
    examples = models.make_examples(models.MODELS["wide"])
    for name in models.MODELS["wide"].features:
        assert len(examples[name].unique()) == models.WORDS


@pytest.mark.parametrize(
    ("points", "rate", "rows"),
    [
        (10**6, 100_000, 10**6),
        (10**7, 170_000, 10**7),
        (10**7, 100_000, 45 * 65_536),
        (10**7, 1_000, 30_000),
        (10**7, 0.5, 1_000),
    ],
    ids=["fits", "nearly fits", "whole blocks", "less than a block", "at least some"],
)
def test_a_slow_path_scores_fewer_rows(points, rate, rows):
    assert rows_in_time(points, rate, 30.0) == rows


@pytest.mark.parametrize(
    ("rows", "seconds", "rate"),
    [(60_000, 6.0, 10_000), (1_000, 1.0, 50_000), (100_000, 1.0, 100_000)],
    ids=["long enough", "mostly fixed cost", "faster than expected"],
)
def test_the_rate_to_expect_of_the_next_size(rows, seconds, rate):
    assert expect_rate(Measurement(rows, seconds, 1.0, 1.0, 1, 1), expected=50_000, seconds=30.0) == rate


def test_paths_follow_each_other_in_every_round():
    assert list(every_cell(["m"], [1, 2], ["a", "b"])) == [("m", 1, "a"), ("m", 1, "b"), ("m", 2, "a"), ("m", 2, "b")]


def test_cpu_seconds_between_samples():
    samples = [TreeSample(10.0, 1.0, 0), TreeSample(12.0, 3.0, 0), TreeSample(14.0, 3.5, 0)]
    found = [cpu_seconds_at(samples, seconds) for seconds in (9.0, 10.0, 11.0, 13.0, 20.0)]
    assert found == [1.0, 1.0, 2.0, 3.25, 3.5]
    assert cpu_seconds_at([], 5.0) == 0.0


def test_results_say_what_was_measured_and_on_how_many_rows(tmp_path):
    cell = Cell("tfx_bsl", "small", 10**7, 600_000, "", 2)
    measurement = Measurement(600_000, 30.0, 60.0, 9.0, 900_000_000, 3_000_000)
    rounds = [dataclasses.replace(measurement, seconds=s, peak_bytes=900_000_000 + int(s)) for s in (30.0, 60.0, 20.0)]
    result = summarize(cell, rounds)
    assert result == {
        "path": "tfx_bsl",
        "model": "small",
        "points": 10**7,
        "rows": 600_000,
        "rows_per_second": 20_000,
        "rows_per_cpu_second": 10_000,
        "peak_bytes": 900_000_060,
        "written_bytes": 3_000_000,
        "seconds": 30.0,
        "start_up_seconds": 9.0,
    }
    results = Results(describe_run("2026-01-05T00:00:00+00:00", 30.0, 3, 2, 4.0), [result])
    results.write(tmp_path)
    assert read_results(tmp_path / "results.json") == results
    markdown = (tmp_path / "results.md").read_text()
    assert "| tfx_bsl | 20k (on 600k) | 10k | 900 MB | 5.0 | 9.0 s |" in markdown
    assert f"- `tfx_bsl`: {PATHS['tfx_bsl'].settings}" in markdown


def test_results_of_other_models_are_kept_with_their_run():
    def results_of(started_at, models):
        header = describe_run(started_at, 30.0, 1, 2, 4.0)
        measurement = Measurement(10**5, 1.0, 1.0, 1.0, 1, 1)
        cells = [Cell("engine", model, 10**5, 10**5, "", 2) for model in models]
        failures = [{"path": "ray_data", "model": model, "points": 1, "reason": started_at} for model in models]
        return Results(header, [summarize(cell, [measurement]) for cell in cells], failures)

    first, second, third = (
        results_of(*run) for run in (("first", ["small", "wide"]), ("second", ["wide"]), ("third", ["medium"]))
    )
    second.add(first)
    third.add(second)
    runs = {model: run["started_at"] for model, run in third.header["earlier_runs"].items()}
    assert runs == {"small": "first", "wide": "second"}
    assert [result["model"] for result in third.results] == ["small", "wide", "medium"]
    assert [failure["reason"] for failure in third.failures] == ["first", "second", "third"]
    assert "In a run of second, 30 s a cell." in to_markdown(third)
    elsewhere = results_of("fourth", ["buckets"])
    elsewhere.header["machine"]["cores"] += 1
    with pytest.raises(ValueError, match="another machine: its cores"):
        elsewhere.add(third)


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (940, "940"), (15_230, "15.2k"), (4_312_000, "4.31M"), (1e9, "1G")]
)
def test_short_numbers(number, text):
    assert short(number) == text


def test_labels_of_the_plot_do_not_lie_on_each_other():
    from benchmarks import plot

    assert plot.spread_apart([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    np.testing.assert_allclose(plot.spread_apart([0.1, 0.5, 0.52, 0.54], 0.1), [0.1, 0.42, 0.52, 0.62])


def test_the_plot_is_drawn(tmp_path):
    from benchmarks import plot

    cell, measurement = Cell("engine", "small", 10**5, 10**5, "", 2), Measurement(10**5, 1.0, 1.0, 1.0, 1, 1)
    other = dataclasses.replace(cell, path="per_row", rows=1_000)
    header = describe_run("2026-01-05T00:00:00+00:00", 30.0, 1, 2, 4.0)
    results = Results(header, [summarize(cell, [measurement]), summarize(other, [measurement])])
    plot.draw_results(results, tmp_path / "results.png")
    assert pathlib.Path(tmp_path, "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_statistics_prints_machine_sizes_and_bar(capsys):
    assert statistics.main(["--rows", "3000", "--columns", "5"]) == 0
    machine, packages, size, bar = capsys.readouterr().out.splitlines()
    assert machine.startswith("processor ")
    assert "apache-beam" in packages
    assert size.startswith("     3,000 rows x 5 columns: ")
    assert bar == "bar for 1,000,000 rows x 20 columns: 20 s"


@pytest.mark.skipif(not DATA.exists(), reason="needs the real data in ../shared/data")
def test_false_alarms_prints_machine_rates_and_bar(capsys):
    sizes = ["--rows", "200", "--nights", "50"]
    assert false_alarms.main(["--data", str(DATA), "--splits", "1", *sizes]) == 0
    machine, _, *rates, bar = capsys.readouterr().out.splitlines()
    assert machine.startswith("processor ")
    assert [line.partition(":")[0] for line in rates] == ["chicago_taxi"] * 2 + ["natality"] * 2
    assert [line.split(": ")[1] for line in rates] == [
        "100 rows against 100",
        "50 rows against 14,952",
        "100 rows against 100",
        "50 rows against 32,976",
    ]
    assert bar == "0 splits with an alarm; bar 0"


@pytest.mark.slow
def test_changes_prints_machine_ways_and_bar(capfd):
    assert changes.main(["--rows", "100000"]) == 0
    machine, packages, rows, *ways, bar = capfd.readouterr().out.splitlines()
    assert machine.startswith("processor ")
    assert "duckdb" in packages
    assert rows == "102,400 rows a night"
    assert [json.loads(way)["check"] for way in ways] == ["place", "key", "contracts"]
    assert bar == "bar for 10,000,000 rows: 15 s and 2 GB a check"
