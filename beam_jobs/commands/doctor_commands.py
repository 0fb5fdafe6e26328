"""The command that looks for what may keep a job from running."""

import typer

from beam_jobs.commands.application import AsJson, JobFile, Overrides, command, print_json
from beam_jobs.console import Console
from beam_jobs.endpoints import use_endpoints
from configs.errors import RefusedError
from configs.loading import load_job


@command
def doctor(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Checks versions, credentials, permissions, places and leftovers, before the first cent is spent."""
    job = load_job(job_file, set_ or ())
    use_endpoints(job)
    with console.quiet(), console.activity("doctor", "asking"):
        from beam_jobs.declarations import check_declarations
        from beam_jobs.doctor.examination import examine

        check_declarations(job)
        report = examine(job, job_file)
    if as_json:
        print_json(report)
    else:
        from beam_jobs.doctor.tables import print_report

        print_report(report)
    failed = [finding["check"] for finding in report["findings"] if finding["status"] == "fail"]
    if failed and as_json:
        raise typer.Exit(RefusedError.exit_code)
    if failed:
        raise RefusedError(f"{job.name} cannot run: {', '.join(dict.fromkeys(failed))}")
