"""Writes `report.html`. A section that cannot be made says so in its place; the others are not the worse for it."""

import logging
from collections.abc import Callable

from beam_jobs.report.parts import Note, Section
from beam_jobs.report.rendering import MOST_BYTES, render
from beam_jobs.report.sections.anomalies import anomalies_section
from beam_jobs.report.sections.changes import changes_section
from beam_jobs.report.sections.curves import curves_section
from beam_jobs.report.sections.distributions import distributions_section
from beam_jobs.report.sections.examples import examples_section
from beam_jobs.report.sections.history import history_section
from beam_jobs.report.sections.predictions import predictions_section
from beam_jobs.report.sections.provenance import provenance_section
from beam_jobs.report.sections.quality import quality_section
from beam_jobs.report.sections.space import space_section
from beam_jobs.report.sections.timing import stages_section
from beam_jobs.report.sections.verdict import make_verdict
from beam_jobs.report.subject import Subject
from beam_jobs.warehouses.base import Warehouse
from beam_jobs.workspace import storage
from configs.job import Job

REPORT = "report.html"
SECTIONS: dict[str, Callable[[Subject], Section | None]] = {
    "Stages": stages_section,
    "What was read": examples_section,
    "Features": distributions_section,
    "Anomalies": anomalies_section,
    "Metrics": quality_section,
    "Input space": space_section,
    "Predictions": predictions_section,
    "Changes": changes_section,
    "What the model believes": curves_section,
    "The last nights": history_section,
    "Lineage": provenance_section,
}


def readable_warehouse(job: Job, say: Callable[[str, str], None]) -> Warehouse | None:
    """The job's warehouse, or None where it does not answer, with a warning that says why: a report does without."""
    from beam_jobs.warehouses import open_warehouse

    try:
        warehouse = open_warehouse(job)
        warehouse.runs(job.name)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"warning: the report is without what the warehouse would show: {reason}", "yellow")
        return None
    return warehouse


def write_report(job_file: str, run_path: str, warehouse: Warehouse | None, output: str | None = None) -> str:
    """Writes the report of the run at `run_path`; returns where.

    Args:
        job_file: as the user named it, for commands to copy.
        warehouse: with the night's table; None where it cannot be opened.
        output: path of the file; by default `report.html` in the run directory.
    """
    subject = Subject.of(job_file, run_path, warehouse)
    sections = [section for name, make in SECTIONS.items() if (section := _made(name, make, subject)) is not None]
    page = render(subject, make_verdict(subject), sections).encode()
    if len(page) > MOST_BYTES:
        logging.warning("%s: %d bytes, more than %d", REPORT, len(page), MOST_BYTES)
    path = output or storage.join(run_path, REPORT)
    storage.write_bytes(path, page)
    return path


def _made(name: str, make: Callable[[Subject], Section | None], subject: Subject) -> Section | None:
    try:
        return make(subject)
    except Exception as error:
        logging.exception("report: section %r cannot be made", name)
        reason = f"This part of the report cannot be made: {type(error).__name__}: {str(error)[:300]}"
        return Section(name.lower().replace(" ", "-"), name, "", (Note((reason,), "warn"),), "warn")
