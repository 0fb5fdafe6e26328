"""The command that makes a night's report again, and opens it. It needs neither Beam nor TensorFlow."""

import datetime
import pathlib
from typing import Annotated

import typer

from beam_jobs.commands.application import AsJson, JobFile, Overrides, command, print_json
from beam_jobs.console import Console
from configs.errors import RefusedError
from configs.loading import load_job


@command
def report(
    job_file: JobFile,
    date: Annotated[
        datetime.datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The night's date; by default the last night there is."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Opens it in the browser.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="File to write, in place of the run's report.html.")
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Writes the report of a night, published or not, from what it left behind."""
    job = load_job(job_file, set_ or ())
    from beam_jobs.endpoints import use_endpoints
    from beam_jobs.history import list_nights
    from beam_jobs.report.writing import readable_warehouse, write_report
    from beam_jobs.workspace.run_directory import job_folder
    from beam_jobs.workspace.storage import is_local, join

    use_endpoints(job)
    folder = job_folder(job)
    nights = [night for night in list_nights(folder) if date is None or night.run_date == date.date().isoformat()]
    if not nights and date is not None:
        nights = [night for night in list_nights(folder, 10_000) if night.run_date == date.date().isoformat()]
    if not nights:
        what = f"no night of {date.date()}" if date is not None else "no night yet"
        raise RefusedError(f"{folder}: {what}; run `foretable run {job_file}`")
    night = nights[0]
    warehouse = readable_warehouse(job, console.line)
    path = write_report(job_file, join(folder, night.run_date, night.run_id), warehouse, output)
    console.line(f"{path}: the night of {night.run_date}, {night.status}")
    if as_json:
        print_json({"report": path, "run_date": night.run_date, "run_id": night.run_id, "status": night.status})
    if open_:
        if not is_local(path):
            raise RefusedError(f"{path}: a browser opens local files only; add --output report.html")
        typer.launch(pathlib.Path(path).resolve().as_uri())
