"""What `foretable doctor` prints for a person."""

from collections.abc import Mapping
from typing import Any

from beam_jobs.commands.tables import pairs_table, print_things

_SHOWN = {"ok": "OK", "warn": "warn", "fail": "FAIL"}


def print_report(report: Mapping[str, Any]) -> None:
    """A line for each finding, its mend below it, and the permissions that the job needs."""
    for finding in report["findings"]:
        print_things(f"{_SHOWN[finding['status']]:<5} {finding['check']:<12} {finding['found']}")
        if finding["mend"]:
            print_things(f"      {'':<12} mend: {finding['mend']}")
    if report["permissions"]:
        needed = {service: ", ".join(names) for service, names in report["permissions"].items()}
        print_things("", "permissions that the job needs:", pairs_table(needed))
