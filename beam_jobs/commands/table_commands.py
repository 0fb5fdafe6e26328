"""Commands that read the published tables, or switch which night readers see."""

import dataclasses
import datetime
from typing import Annotated, Any

import typer

from beam_jobs.commands.application import AsJson, JobFile, Overrides, command, print_json
from beam_jobs.console import Console
from beam_jobs.endpoints import use_endpoints
from configs.errors import MissError
from configs.job import Job
from configs.loading import load_job


def _reading(job_file: str, overrides: list[str] | None) -> tuple[Job, Any]:
    job = load_job(job_file, overrides or ())
    use_endpoints(job)
    from beam_jobs.warehouses import open_warehouse

    return job, open_warehouse(job)


@command
def lookup(
    job_file: JobFile,
    key: Annotated[
        list[str], typer.Argument(metavar="COLUMN=VALUE...", help="The key; an empty value is a missing one.")
    ],
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Answers one key from the published table."""
    job, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.reading import look_up
    from beam_jobs.commands.tables import print_row
    from beam_jobs.lookup import Hit, Miss

    answer = look_up(job, warehouse, key)
    if as_json:
        print_json({"hit": isinstance(answer, Hit)} | dataclasses.asdict(answer))
    if isinstance(answer, Miss):
        raise MissError(f"miss: {answer}")
    console.line(f"hit: the night of {answer.run_date}, model {answer.model_version}")
    if not as_json:
        print_row(answer.row)


@command
def query(
    job_file: JobFile,
    sql: Annotated[str, typer.Argument(help="One SELECT over <job>_predictions, <job>_history, <job>_runs.")],
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Asks the warehouse, read-only."""
    _, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.tables import bytes_text, print_table

    if (size := warehouse.query_bytes(sql)) is not None:
        console.line(f"the query reads {bytes_text(size)}")
    table = warehouse.query(sql)
    if as_json:
        print_json({"columns": table.column_names, "rows": table.to_pylist()})
    else:
        print_table(table)


@command
def sql(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Prints the SQL that looks keys up in the published table, to start from."""
    job, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.reading import write_query

    text = write_query(job, warehouse)
    if as_json:
        print_json({"sql": text})
    else:
        print(text)


@command
def runs(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Lists the last nights: those that were published, and those that were refused or failed, with what was said."""
    job, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.reading import list_runs
    from beam_jobs.commands.tables import print_runs

    records = list_runs(job, warehouse)
    if as_json:
        print_json({"runs": records})
    else:
        print_runs(job, records)


@command
def status(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Says what is published, and how far the last nights came."""
    job, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.reading import job_status
    from beam_jobs.commands.tables import print_status

    current = job_status(job, warehouse)
    if as_json:
        print_json(current)
    else:
        print_status(current)


@command
def rollback(
    job_file: JobFile,
    to: Annotated[
        datetime.datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Date of the night to go back to.")
    ],
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Switches readers back to an earlier night's table."""
    job, warehouse = _reading(job_file, set_)
    from beam_jobs.commands.reading import roll_back

    record = roll_back(job, warehouse, to.date())
    console.line(f"{job.name}_predictions is the night of {record['run_date']} again ({record['rows']:,} rows)")
    if record["champion"] is not None:
        console.line(f"champion: {record['champion']}")
    if as_json:
        print_json(record)


@command
def changes(
    job_file: JobFile,
    date: Annotated[
        datetime.datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The night's date; by default the last that was checked."),
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Says what a night changes against the one before, and which checks it passed, published or refused."""
    job = load_job(job_file, set_ or ())
    use_endpoints(job)
    from beam_jobs.commands.changes_tables import print_changes
    from beam_jobs.workspace.changes_file import read_changes
    from beam_jobs.workspace.run_directory import job_folder

    tree = read_changes(job_folder(job), date.date() if date is not None else None)
    if as_json:
        print_json(tree)
    else:
        print_changes(tree)


@command
def export(
    job_file: JobFile,
    to: Annotated[str, typer.Option("--to", metavar="FILE.duckdb", help="File to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replaces the file if it is there.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Writes the published table into one self-contained DuckDB file, to hand on."""
    job, warehouse = _reading(job_file, set_)
    rows = warehouse.export(job.name, to, force=force)
    console.line(f"{to}: {job.name}_predictions, {rows:,} rows")
    if as_json:
        print_json({"file": to, "rows": rows})
