"""The application that commands register with: common options, and errors as one line with an exit code."""

import datetime
import functools
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from beam_jobs import __version__
from beam_jobs.console import Console
from configs.errors import ForetableError, MissError

EPILOG = (
    "Exit codes: 0 done, 2 usage or job file, 3 refused by a gate, 4 the key is not in the table, 5 failed. "
    "Results go to standard output, lines and progress to standard error. "
    "Everything after a bare -- goes to Beam as it is."
)

ORDER = (
    *("validate", "doctor", "schema", "plan"),
    *("run", "prepare", "train", "evaluate", "precompute", "publish", "monitor"),
    *("status", "runs", "report", "changes", "models", "rollback"),
    *("lookup", "query", "sql", "export", "endpoint"),
    *("skew", "parity"),
)
"""Commands as the help lists them: before a night, the night and its stages, after it, readers, proofs."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    name="foretable",
    cls=_InOrder,
    context_settings={"max_content_width": 120},
    help="Computes every prediction before it is asked for: "
    "trains, judges, scores the whole input space, publishes one table.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="The job file.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Overrides a setting of the job file, in YAML.")
]
RunDate = Annotated[
    datetime.datetime | None,
    typer.Option("--date", formats=["%Y-%m-%d"], help="The night's date; by default today's, UTC."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Prints one JSON object on standard output.")]
Wait = Annotated[bool, typer.Option("--wait", help="Waits for another run of this job and date, rather than refuse.")]
BeamOptions = Annotated[list[str] | None, typer.Argument(metavar="[-- BEAM_OPTION...]", show_default=False)]


def command(function: Callable[..., Any], group: typer.Typer = app) -> Callable[..., Any]:
    """Registers a command whose errors come out as one line each, with the exit code that they carry.

    Args:
        group: that the command is one of.
    """

    @functools.wraps(function)
    def with_errors(*args: Any, **kwargs: Any) -> None:
        console = Console()
        try:
            function(*args, **kwargs, console=console)
        except ForetableError as error:
            for line in str(error).splitlines():
                console.line(line if isinstance(error, MissError) else f"error: {line}", "red")
            raise typer.Exit(error.exit_code) from error
        except typer.Exit:  # a RuntimeError, whose code the command chose
            raise
        except KeyboardInterrupt:
            console.line("interrupted; the same command goes on from here", "red")
            raise typer.Exit(130) from None
        except Exception as error:
            _report_unexpected(error, console)
            raise typer.Exit(ForetableError.exit_code) from error

    signature = inspect.signature(function)
    visible = [parameter for name, parameter in signature.parameters.items() if name != "console"]
    with_errors.__signature__ = signature.replace(parameters=visible)  # type: ignore[attr-defined]
    return group.command()(with_errors)


def _report_unexpected(error: Exception, console: Console) -> None:
    import logging
    import traceback

    if isinstance(error, OSError) and error.strerror:
        console.line(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", "red")
    else:
        first_line = (str(error).strip().splitlines() or [""])[-1]
        console.line(f"error: {type(error).__name__}: {first_line[:300]}", "red")
    if console.log_path is not None:
        logging.error("%s", "".join(traceback.format_exception(error)))
        console.line(f"the whole story is in {console.log_path}", "red")
    elif not isinstance(error, OSError):
        traceback.print_exception(error)


def print_json(tree: Any) -> None:
    """Prints the one JSON object that a command gives with `--json`."""
    print(json.dumps(tree, ensure_ascii=False, default=str))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Prints the version.")] = False) -> None:
    if version:
        print(f"foretable {__version__}")
        raise typer.Exit
