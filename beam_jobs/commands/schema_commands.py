"""The command about the schema that a team keeps."""

import dataclasses
from typing import Annotated

import typer

from beam_jobs.commands.application import AsJson, JobFile, Overrides, command, print_json
from beam_jobs.console import Console
from configs.errors import JobError
from configs.job import TrainedJob
from configs.loading import load_job


@command
def schema(
    job_file: JobFile,
    update: Annotated[
        bool, typer.Option("--update", help="Shows the edit that would make the last night's examples valid.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Makes that edit in the job's schema file.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Shows the schema that examples are held against; proposes its edit, or makes it."""
    job = load_job(job_file, set_ or ())
    if not isinstance(job, TrainedJob):
        raise JobError("schema: the job's model is given (model.saved_model), and reads no examples")
    from beam_jobs.endpoints import use_endpoints
    from beam_jobs.schemas import propose_schema, schema_text, write_schema

    use_endpoints(job)
    kept = schema_text(job)
    if kept is not None and not update and not write:
        if as_json:
            print_json({"schema": job.schema_file, "text": kept})
        else:
            print(kept, end="")
        return
    proposed = propose_schema(job, job_file)
    if write:
        write_schema(job, proposed)
    if as_json:
        print_json(dataclasses.asdict(proposed) | {"written": write})
    elif not update and not write:
        print(proposed.text, end="")
    else:
        print(proposed.diff, end="")
    for anomaly in proposed.anomalies:
        console.line(anomaly, "yellow")
    console.line(_verdict(proposed.diff, job.schema_file, kept is not None, write))


def _verdict(diff: str, path: str | None, is_kept: bool, written: bool) -> str:
    if not is_kept and not written:
        where = "--write makes it so" if path is not None else "name a file for it in the job file, as `schema:`"
        return f"the job keeps no schema yet; this is what the last night's examples look like: {where}"
    if not diff:
        return f"{path}: the last night's examples are valid; nothing to edit"
    return f"{path}: written" if written else f"{path}: --write makes this edit"
