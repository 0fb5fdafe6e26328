"""Commands that run a night or a stage of it.

What they do is in `commands`, imported when one runs: help and errors in the job file come without TensorFlow.
"""

import datetime
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer

from beam_jobs.commands.application import AsJson, BeamOptions, JobFile, Overrides, RunDate, Wait, command, print_json
from beam_jobs.console import Console
from configs.errors import JobError
from configs.job import Job, TrainedJob
from configs.loading import load_job

ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="VERSION|ALIAS", help="A version of the model, by number, alias or digest."),
]


def _job(job_file: str, overrides: list[str] | None) -> Job:
    job = load_job(job_file, overrides or ())
    from beam_jobs.declarations import check_declarations

    check_declarations(job)
    return job


def _night(
    job_file: str,
    overrides: list[str] | None,
    date: datetime.datetime | None,
    console: Console,
    tells: bool = False,
    logs: bool = True,
    **settings: Any,
) -> Any:
    options = settings.get("beam_options", ())
    if options and not options[0].startswith("-"):
        raise JobError(f"{options[0]!r}: unexpected; one job file a command, and Beam's own options behind a bare --")
    job = _job(job_file, overrides)
    from beam_jobs.night import Night

    run_date = date.date() if date is not None else datetime.datetime.now(datetime.UTC).date()
    try:
        night = Night.of(job, job_file, run_date, console, **settings)
    except Exception as error:
        if tells:
            from beam_jobs.reporting import tell_no_start

            tell_no_start(job, run_date, error, console)
        raise
    if logs:
        night.log_noise()  # before anything imports TensorFlow, which is noisy from the first moment
    return night


def _forecast(
    job_file: str,
    overrides: list[str] | None,
    date: datetime.datetime | None,
    as_json: bool,
    console: Console,
    **settings: Any,
) -> None:
    """What `run` would do; it writes nothing, so it takes no lock and has no log."""
    with console.quiet():
        night = _night(job_file, overrides, date, console, logs=False, **settings)
        with _loading(console):
            from beam_jobs.commands.nights import STAGES
        from beam_jobs.commands.forecast_tables import print_forecast
        from beam_jobs.forecast import forecast

        told = forecast(night, STAGES.values())
    if as_json:
        print_json(told)
    else:
        print_forecast(told)


def _loading(console: Console) -> AbstractContextManager[None]:
    return console.activity("start", "loading Beam and TensorFlow")


@command
def validate(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Checks the job file, without reading any data."""
    job = _job(job_file, set_)
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        axes = " x ".join(job.input_space.axes)
        predicted = job.label.name if isinstance(job, TrainedJob) else "the given model's outputs"
        console.line(f"{job_file}: job {job.name!r} is valid: {len(job.features)} features -> {predicted}, over {axes}")


@command
def run(
    job_file: JobFile,
    beam_options: BeamOptions = None,
    set_: Overrides = None,
    date: RunDate = None,
    as_json: AsJson = False,
    wait: Wait = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Says what would be read, run, written and paid, and does nothing.")
    ] = False,
    *,
    console: Console,
) -> None:
    """Runs the night: every stage that is not done yet, up to the published table."""
    if dry_run:
        _forecast(job_file, set_, date, as_json, console, beam_options=tuple(beam_options or ()))
        return
    night = _night(job_file, set_, date, console, tells=True, beam_options=tuple(beam_options or ()))
    with night.working(wait):  # before the long imports: a second run is told at once
        with _loading(console):
            from beam_jobs.commands.nights import run_night
        result = run_night(night)
    if as_json:
        print_json(result)


def _stage_command(name: str, about: str, **settings: Any) -> None:
    def stage(
        job_file: JobFile,
        beam_options: BeamOptions = None,
        set_: Overrides = None,
        date: RunDate = None,
        as_json: AsJson = False,
        wait: Wait = False,
        *,
        console: Console,
    ) -> None:
        night = _night(job_file, set_, date, console, beam_options=tuple(beam_options or ()), **settings)
        with night.working(wait):
            with _loading(console):
                from beam_jobs.commands.nights import run_one_stage
            marker = run_one_stage(night, name)
        if as_json:
            print_json(marker)

    stage.__name__ = name
    stage.__doc__ = about
    command(stage)


_stage_command("prepare", "Reads, checks and splits the examples; analyses and transforms them.")
_stage_command("train", "Trains a model on the prepared examples, whether its schedule says so or not.", train_now=True)
_stage_command("evaluate", "Judges the exported model on the eval split, and blesses it or not.")
_stage_command("monitor", "Gathers what the night was, and writes its report.")


@command
def precompute(
    job_file: JobFile,
    beam_options: BeamOptions = None,
    model: ModelName = None,
    set_: Overrides = None,
    date: RunDate = None,
    as_json: AsJson = False,
    wait: Wait = False,
    *,
    console: Console,
) -> None:
    """Computes the predictions of the whole input space, with tonight's model or with an earlier version."""
    night = _night(job_file, set_, date, console, beam_options=tuple(beam_options or ()))
    with night.working(wait):
        with _loading(console):
            from beam_jobs.commands.nights import precompute_with
        marker = precompute_with(night, model)
    if as_json:
        print_json(marker)


@command
def publish(
    job_file: JobFile,
    beam_options: BeamOptions = None,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="CHECK", help="Lets the night fail a check; repeatable.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept with the night in <job>_runs.")] = None,
    set_: Overrides = None,
    date: RunDate = None,
    as_json: AsJson = False,
    wait: Wait = False,
    *,
    console: Console,
) -> None:
    """Loads tonight's table, verifies and checks it, and switches readers to it."""
    night = _night(job_file, set_, date, console, beam_options=tuple(beam_options or ()))
    with night.working(wait):
        with _loading(console):
            from beam_jobs.commands.nights import publish_accepting
        marker = publish_accepting(night, accept or (), reason)
    if as_json:
        print_json(marker)


@command
def plan(
    job_file: JobFile,
    model: ModelName = None,
    set_: Overrides = None,
    date: RunDate = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Says how large the input space is, how long scoring it takes and how many bytes it writes, without doing it."""
    night = _night(job_file, set_, date, console)
    with _loading(console):
        from beam_jobs.commands.nights import plan_night
    from beam_jobs.commands.tables import print_plan

    planned = plan_night(night, model)
    if as_json:
        print_json(planned)
        return
    print_plan(planned)
    if "batch_prediction" in planned:
        from beam_jobs.commands.vertex_tables import print_sizing

        print_sizing(planned["batch_prediction"])


@command
def skew(
    job_file: JobFile,
    set_: Overrides = None,
    date: RunDate = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rows to compare.")] = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Compares the features that training read with those of the serving graph, byte for byte."""
    night = _night(job_file, set_, date, console)
    with _loading(console):
        from beam_jobs.commands.nights import check_skew
    from beam_jobs.commands.tables import print_skew

    report = check_skew(night, rows)
    if as_json:
        print_json(report)
    else:
        print_skew(report)
    if any(report["mismatches"].values()):
        raise typer.Exit(3)


@command
def parity(
    job_file: JobFile,
    set_: Overrides = None,
    date: RunDate = None,
    points: Annotated[
        int, typer.Option("--points", min=1, max=1_000_000, help="Points of the space to compare.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Of which ones.")] = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Largest relative difference that is one of rounding.")
    ] = 1e-6,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Scores the same points in the pipeline and by a batch prediction job, and says how far the two are apart."""
    night = _night(job_file, set_, date, console)
    if night.job.vertex is None:
        raise JobError(f"{job_file}: vertex: not set; parity compares the pipeline with batch prediction on Vertex AI")
    with night.working():
        with _loading(console):
            from beam_jobs.commands.nights import compare_backends
        from beam_jobs.commands.vertex_tables import print_parity

        compared = compare_backends(night, points, seed, tolerance)
    if as_json:
        print_json(compared)
    else:
        print_parity(compared)
    if not compared["holds"]:
        raise typer.Exit(3)
