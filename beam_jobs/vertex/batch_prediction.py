"""Predictions by batch prediction jobs: each needed cell is sent once and comes back once, or the night says which not.

Instances go out in rounds: the first has every cell, the next what came back without a prediction. What a killed night
sent is never sent again: its jobs are found by their names, and what they wrote is read again.
"""

import dataclasses
import tempfile
from collections.abc import Sequence

import numpy as np

from beam_jobs.night import Night
from beam_jobs.vertex.decoding import decode
from beam_jobs.vertex.exchanges import Exchange
from beam_jobs.vertex.instance_files import Encode, instance_encoder, key_field
from beam_jobs.vertex.jobs import VertexJob, VertexJobs
from beam_jobs.vertex.predictions import Answers, shown
from beam_jobs.vertex.registry import registered_version
from beam_jobs.vertex.rounds import STEP, Round
from beam_jobs.vertex.service import VertexService
from beam_jobs.vertex.unanswered import MISSING_FILE, Unanswered
from beam_jobs.vertex.waiting import run_jobs
from beam_jobs.workspace import storage
from beam_jobs.workspace.artifacts import ScoringModel
from configs.errors import ForetableError
from configs.precomputing import VertexBatchPrecompute
from configs.vertex import duration_seconds
from transforms.scoring.cells import CellPredictions, CellScorer, NeededCells
from transforms.scoring.classes import ClassSpace
from transforms.scoring.engine import load_engine
from transforms.scoring.precompute import PrecomputePredictions
from transforms.scoring.shard_records import ShardRecord
from transforms.space.blocks import shard_ranges

ROUNDS = 2
"""Of one night. One that is started again after these sends what is still missing once more."""


def precompute_on_vertex(night: Night, transform: PrecomputePredictions, model: ScoringModel) -> list[ShardRecord]:
    """Writes the shards that `transform` would write, with predictions that Vertex computed.

    Raises:
        ForetableError: a job failed, or some instances have no prediction after all rounds.
        RefusedError: a prediction is not a finite number, or a value cannot be sent as JSON.
    """
    engine = load_engine(transform.engine_files)
    shards = shard_ranges(transform.plan.cardinality, transform.plan.shard_blocks)
    found = transform.writer(engine).all_finished(shards)
    finished = [record for record in found if record is not None]
    unfinished = [shard for shard, record in zip(shards, found, strict=True) if record is None]
    if not unfinished:
        return finished
    with tempfile.TemporaryDirectory(prefix="foretable-cells-") as folder:
        cells = ClassSpace.of(engine.space, engine.classes)
        needed = NeededCells(cells, engine.exclusion, folder)
        predictions = CellPredictions(needed, cells, transform.outputs, folder)
        predict_cells(night, transform, model, cells, predictions)
        writer = transform.writer(dataclasses.replace(engine, scorer=CellScorer(cells, predictions)))
        count = lambda: len(storage.list_files(transform.predictions_dir, "part-*.parquet"))  # noqa: E731
        with night.console.progress(STEP, "shards", len(shards), count):
            return finished + writer.write_all(unfinished)


def predict_cells(
    night: Night,
    transform: PrecomputePredictions,
    model: ScoringModel,
    cells: ClassSpace,
    predictions: CellPredictions,
    step: str = STEP,
) -> None:
    """Fills in the predictions of all needed cells.

    Args:
        transform: says which model takes which features; its folder of predictions is not touched.
        step: in the jobs' names, which are found again by the same step, model and space.

    Raises:
        ForetableError: a job failed, or some instances have no prediction after all rounds.
    """
    settings = night.job.precompute
    assert isinstance(settings, VertexBatchPrecompute)
    version = f"{model.model_version} {transform.plan.space_hash} {settings.instances_format}"
    encode, key = instance_encoder(cells, transform), key_field(transform)
    registered = registered_version(night, model)
    number = 0
    while True:
        number += 1
        sent = Round(night, settings, number, version, key, step)
        has_next = number < ROUNDS or sent.is_sent  # of a night that is started again, the first new one is the last
        unanswered = Unanswered(cells)
        _run_round(sent, registered, encode, predictions, unanswered)
        if not predictions.missing_count:
            break
        problem = unanswered.described(predictions.missing(), predictions.missing_count, predictions.needed.count)
        if not has_next:
            listed = storage.join(sent.folder, MISSING_FILE)
            unanswered.write(listed, predictions.missing())
            raise ForetableError(
                f"{step}: {problem}; in {number} rounds: see {listed}; the same command sends them once more"
            )
        night.console.line(f"{step:<12} {problem}; sent once more", "yellow")
    if predictions.repeated:
        night.console.line(f"{step:<12} {predictions.repeated:,} predictions came twice: the first of each counts")


def _run_round(sent: Round, model: str, encode: Encode, predictions: CellPredictions, unanswered: Unanswered) -> None:
    """Sends the cells without a prediction, or finds the jobs that they were sent to, and takes what those wrote."""
    exchange, night, step = sent.exchange(), sent.night, sent.step
    if not sent.is_sent:
        count = predictions.missing_count
        night.console.line(f"{step:<12} {count:,} instances for batch prediction, to {sent.folder}", "dim")
        with night.console.activity(step, "writing instances"):
            sent.write(predictions.missing(), count, encode, exchange.suffix)
    messages = sent.messages(exchange, encode, model)
    done = [0]

    def show(jobs: Sequence[VertexJob]) -> None:
        statistics = [job.message.completion_stats for job in jobs]
        done[0] = sum(each.successful_count + each.failed_count for each in statistics)

    instances = sum(sum(part.instances) for part in sent.parts())
    with night.console.progress(step, "instances", instances, lambda: done[0]):
        jobs = run_jobs(
            VertexJobs(VertexService.of(night.job), "batch"),
            messages,
            night,
            step,
            progress=show,
            timeout_seconds=duration_seconds(sent.settings.timeout),
            has_output=exchange.has_output,
        )
    with night.console.activity(step, "reading predictions"):
        for job in jobs:
            take_output(job, exchange, predictions, unanswered)


def take_output(job: VertexJob, exchange: Exchange, predictions: CellPredictions, unanswered: Unanswered) -> None:
    """Takes a finished job's predictions and errors.

    Raises:
        ForetableError: a file is not what Vertex writes, has a key of no instance, or a value that JSON changed.
    """
    for answers in exchange.answers(job):
        numbers = answers.cells()
        if len(numbers):
            _check_keys(answers, numbers, predictions)
            predictions.fill(numbers, decode(answers, predictions.outputs))
        unanswered.add(answers.failures)
    unanswered.add(exchange.failures(job), job.message.completion_stats.failed_count)


def _check_keys(answers: Answers, numbers: np.ndarray, predictions: CellPredictions) -> None:
    strange = np.flatnonzero(~predictions.needed.are(numbers))
    if len(strange):
        raise ForetableError(
            f"{answers.where}: key {shown(answers.keys[strange[0]])}: no instance has it; were its lines written by"
            " another job?"
        )
