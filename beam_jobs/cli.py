"""The command line `foretable`."""

from beam_jobs.commands import (
    doctor_commands,
    model_commands,
    night_commands,
    report_commands,
    schema_commands,
    table_commands,
)
from beam_jobs.commands.application import app

# Importing them registers their commands.
COMMANDS = (doctor_commands, model_commands, night_commands, report_commands, schema_commands, table_commands)


def main() -> None:
    """Runs the command line and exits."""
    app(prog_name="foretable")
