"""Nights of natality rows in which something went wrong, as far as their statistics go."""

import datetime
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from conftest import NATALITY, ListedConsole

from beam_jobs.data_checks import check_data
from beam_jobs.lineage import TrainedModel, model_definition, published_nights
from beam_jobs.night import Night
from beam_jobs.workspace.run_directory import RunDirectory
from configs.loading import load_job
from transforms.examples.column_summaries import SplitSummary
from transforms.examples.readers.natality_sample import generate_natality
from transforms.examples.statistics import dataset_statistics, write_statistics

ROWS = 8000
COLUMNS = ("is_male", "mother_age", "plurality", "gestation_weeks", "weight_pounds", "hashmonth")
CSV = "source={kind: csv, files: [nights/*.csv]}"


def rows(seed):
    columns = generate_natality(seed, 0)
    return pa.table({name: columns[name].slice(0, ROWS) for name in COLUMNS})


def replaced(table, name, column):
    return table.set_column(table.column_names.index(name), name, column)


def swapped(name, one, other):
    def plant(table):
        words = table[name]
        is_one, is_other = pc.equal(words, one), pc.equal(words, other)
        return replaced(table, name, pc.if_else(is_one, other, pc.if_else(is_other, one, words)))

    return plant


def in_grams(table):
    return replaced(table, "weight_pounds", pc.multiply(table["weight_pounds"], 453.59237))


def third_missing(name):
    def plant(table):
        lost = pa.array(np.arange(len(table)) % 3 == 0)
        return replaced(table, name, pc.if_else(lost, None, table[name]))

    return plant


def without(name, word):
    return lambda table: table.filter(pc.not_equal(table[name], word))


def shuffled_labels(table):
    order = np.random.default_rng(0).permutation(len(table))
    return replaced(table, "weight_pounds", table["weight_pounds"].take(pa.array(order)))


class Nights:
    """Nights of one job, as far as their statistics go."""

    def __init__(self, folder, *overrides):
        self.folder = folder
        self.job = load_job(NATALITY, [f"workspace={folder}", CSV, *overrides])

    def run(self, day, table, publish=True):
        """Checks a night's rows; returns the night and the lines of its anomalies, errors first."""
        run = RunDirectory(f"{self.folder}/natality", datetime.date(2026, 1, day), f"{day:012d}")
        pathlib.Path(run.path).mkdir(parents=True, exist_ok=True)
        splits = {"train": SplitSummary("weight_pounds"), "eval": SplitSummary("weight_pounds")}
        for split, part in (("train", table.slice(0, len(table) * 3 // 4)), ("eval", table.slice(len(table) * 3 // 4))):
            for batch in part.combine_chunks().to_batches():
                splits[split].add(batch)
        statistics = dataset_statistics(splits)
        write_statistics(statistics, run.file("statistics.pbtxt"))
        night = Night(self.job, NATALITY, run, ListedConsole())
        reused = None
        if self.job.model.training.every == "drift" and (before := published_nights(run, 1)):
            model = before[0]
            reused = TrainedModel(model.run_id, model.run_date, model.path, "model", "transform", "definition", None)
        checks = check_data(night, statistics, (), reused)
        if publish:
            run.write_marker("published.json", {}, {}, 0)
        return run, checks

    def lines(self, day, table, publish=True):
        """`SEVERITY path: text` of each anomaly."""
        _, checks = self.run(day, table, publish)
        return [f"{anomaly.severity} {anomaly.path}: {anomaly.long}" for anomaly in checks.anomalies]

    def leave_model(self, run):
        """Leaves the markers of a night that trained a blessed model."""
        body = {
            "trained_in": run.path,
            "run_id": run.run_id,
            "run_date": run.run_date.isoformat(),
            "model_version": "model1",
            "transform_hash": "hash",
            "definition": model_definition(self.job),
            "classes": None,
        }
        run.write_marker("training.json", body, {}, 0)
        run.write_marker("blessing.json", {"blessed": True}, {}, 0)
