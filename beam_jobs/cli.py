"""The command line `foretable`."""

from beam_jobs import night_commands, table_commands
from beam_jobs.application import app

COMMANDS = (night_commands, table_commands)  # importing them registers their commands


def main() -> None:
    """Runs the command line and exits."""
    app(prog_name="foretable")
