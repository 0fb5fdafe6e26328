"""The report of a job with many columns: as many as are drawn, in a file of bounded size."""

import json
import pathlib

from google.protobuf import text_format
from nights import DAY
from report_nights import ONE_DAY, add_numbers, add_words, write_night
from tensorflow_metadata.proto.v0 import statistics_pb2

from beam_jobs.report.sections.distributions import MOST_FEATURES
from beam_jobs.report.writing import MOST_BYTES, write_report
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse

COLUMNS = [f"column_{index:02d}" for index in range(60)]


def widen(run):
    """Adds columns to what a night left: words, and numbers of as many values as a histogram has."""
    path = pathlib.Path(run.path)
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    text_format.Parse((path / "statistics.pbtxt").read_text(), statistics)
    job = json.loads((path / "job.json").read_text())
    for index, name in enumerate(COLUMNS):
        job["features"][name] = job["features"]["sex" if index % 2 else "weeks"]
        for dataset in statistics.datasets:
            if index % 2:
                add_words(dataset, name, [(f"word {word} of <{name}> & others", 3) for word in range(60)])
            else:
                add_numbers(dataset, name, [value / 7 for value in range(1000)], [1.0] * 1000)
    (path / "statistics.pbtxt").write_text(text_format.MessageToString(statistics))
    (path / "job.json").write_text(json.dumps(job))


def test_a_report_of_many_columns_draws_the_first_and_stays_small(tmp_path):
    for run_id, date in (("r0", DAY - ONE_DAY), ("r1", DAY)):
        run = write_night(tmp_path, run_id=run_id, date=date)
        widen(run)
    warehouse = DuckDBWarehouse(str(tmp_path / "natality" / "natality.duckdb"))
    page = pathlib.Path(write_report("job.yaml", run.path, warehouse)).read_text(encoding="utf-8")
    drawn = [name for name in COLUMNS if f"{name}</" in page]
    assert "cannot be made" not in page
    assert (
        f"64 columns that the model reads or predicts; weeks moved over the threshold; the first {MOST_FEATURES} "
        in page
    )
    assert drawn == COLUMNS[: MOST_FEATURES - 3]  # behind the three that the small night has
    assert 100_000 < len(page.encode()) < MOST_BYTES
