"""Commands about the versions of a job's model, and about the endpoint that answers for keys outside the table."""

from typing import Annotated, Any

import typer

from beam_jobs.commands.application import AsJson, JobFile, Overrides, app, command, print_json
from beam_jobs.console import Console
from beam_jobs.endpoints import use_endpoints
from configs.errors import JobError
from configs.job import Job
from configs.loading import load_job

endpoint = typer.Typer(
    name="endpoint",
    help="Answers keys outside the table online, with blessed versions of the model on Vertex AI.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(endpoint)


def _job(job_file: str, overrides: list[str] | None) -> Job:
    job = load_job(job_file, overrides or ())
    use_endpoints(job)
    return job


def _vertex_job(job_file: str, overrides: list[str] | None) -> Job:
    job = _job(job_file, overrides)
    if job.vertex is None:
        raise JobError(
            f"vertex: {job.name} has no endpoint; expected vertex: {{project: …, region: …}} in the job file"
        )
    return job


@command
def models(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Lists the versions of the model, with their metrics, and the one that the table comes from."""
    job = _job(job_file, set_)
    from beam_jobs.commands.model_tables import print_models
    from beam_jobs.commands.reading import list_models
    from beam_jobs.warehouses import open_warehouse

    listed = list_models(job, open_warehouse(job))
    if as_json:
        print_json({"job": job.name, "models": listed})
    else:
        print_models(job, listed)


def _endpoint_command(function: Any) -> Any:
    return command(function, endpoint)


@_endpoint_command
def deploy(
    job_file: JobFile,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="VERSION|ALIAS", help="A version; by default the champion."),
    ] = None,
    traffic: Annotated[
        int, typer.Option("--traffic", metavar="PERCENT", min=0, max=100, help="What it answers; others get the rest.")
    ] = 100,
    replace: Annotated[bool, typer.Option("--replace", help="Takes off versions that then get no traffic.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Puts a blessed version online, beside what is there; it costs by the hour until it is undeployed."""
    job = _vertex_job(job_file, set_)
    from beam_jobs.commands.model_tables import print_deployed
    from beam_jobs.commands.online import deploy_version

    with console.activity("endpoint", "deploying, which takes Vertex some minutes"):
        deployed = deploy_version(job, job_file, model, traffic, replace)
    if as_json:
        print_json({"endpoint": job.name, "deployed": deployed})
    else:
        print_deployed(deployed)
    if idle := [each["version"] for each in deployed if not each["traffic"]]:
        again = f"foretable endpoint deploy {job_file} --model {deployed[0]['version']} --replace"
        console.line(f"no traffic, and billed all the same: version {', '.join(idle)}; `{again}` takes it off")


@_endpoint_command
def predict(
    job_file: JobFile,
    key: Annotated[
        list[str], typer.Argument(metavar="FEATURE=VALUE...", help="All features; an empty value is a missing one.")
    ],
    set_: Overrides = None,
    as_json: AsJson = False,
    *,
    console: Console,
) -> None:
    """Asks the endpoint for one row; its values need not be in the table."""
    job = _vertex_job(job_file, set_)
    with console.quiet():  # of what encodes the instance
        from beam_jobs.commands.online import ask

        answer = ask(job, key)
    from beam_jobs.commands.tables import print_row

    console.line(f"version {answer['version']}, model {answer['model_version']} of {answer['run_date']}")
    if as_json:
        print_json(answer)
    else:
        print_row(answer["row"])


@_endpoint_command
def undeploy(job_file: JobFile, set_: Overrides = None, as_json: AsJson = False, *, console: Console) -> None:
    """Takes all versions off and deletes the endpoint: nothing of it is billed any more."""
    job = _vertex_job(job_file, set_)
    from beam_jobs.commands.online import undeploy_all

    with console.activity("endpoint", "undeploying"):
        gone = undeploy_all(job)
    versions = ", ".join(each["version"] for each in gone)
    console.line(f"{job.name}: nothing is deployed any more" + (f"; it was version {versions}" if versions else ""))
    if as_json:
        print_json({"endpoint": job.name, "undeployed": gone})
