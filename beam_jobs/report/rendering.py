"""From sections to one self-contained HTML page, by Jinja2 templates."""

import datetime
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from beam_jobs.report.parts import Section
from beam_jobs.report.sections.verdict import Verdict
from beam_jobs.report.subject import Subject

MOST_BYTES = 3_000_000
"""Of a page: a phone opens it, and a mail server lets it through."""


def render(subject: Subject, verdict: Verdict, sections: Sequence[Section]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("beam_jobs.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["drawing"] = _drawing
    style = environment.get_template("style.css").render()
    return environment.get_template("report.html").render(
        style=markupsafe.Markup(style),
        job=subject.name,
        description=subject.job.get("description", ""),
        run_date=subject.files.run_date,
        weekday=f"{subject.files.run_date:%A}",
        run_id=subject.files.run_id,
        made_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        verdict=verdict,
        sections=sections,
    )


def _drawing(svg: str) -> Any:
    """Our own drawing, whose texts matplotlib has escaped."""
    return markupsafe.Markup(svg)
