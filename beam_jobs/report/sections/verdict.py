"""The verdict: what became of the night, in one line, and what is to be done."""

import dataclasses
from typing import Any

from beam_jobs.commands.tables import HEADLINE_METRICS
from beam_jobs.report.constant_predictor import constant_metrics
from beam_jobs.report.parts import Commands, Figure, Figures, Note, Tone
from beam_jobs.report.sections.anomalies import read_anomalies
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, join_words, number, seconds_text

_WORDS: dict[str, tuple[str, Tone]] = {
    "published": ("Published", "good"),
    "kept": ("Kept, not shown", "good"),
    "refused": ("Refused", "warn"),
    "failed": ("Failed", "bad"),
    "unfinished": ("Unfinished", "warn"),
}
_MARKS = {"good": "✓", "warn": "✕", "bad": "!"}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The head of the report.

    Attributes:
        word: what became of the night.
        mark: a sign for the same, since a colour alone says nothing to some.
        lines: what the person saw, a reason each.
        todo: what is to be done, in a sentence.
        notes: what passed although somebody should look at it.
    """

    word: str
    mark: str
    tone: Tone
    lines: tuple[str, ...]
    todo: str
    commands: Commands | None
    figures: Figures
    notes: Note | None


def make_verdict(subject: Subject) -> Verdict:
    """The verdict on the night."""
    summary = subject.summary
    word, tone = _WORDS[summary.status]
    stage = f" by {summary.stage}" if summary.status == "refused" else f" in {summary.stage}"
    if summary.status in ("refused", "failed", "unfinished") and summary.stage:
        word += stage
    todo, commands = _todo(subject)
    accepted = subject.record.accepted if subject.record is not None else {}
    notes = [f"{check} was accepted by a person: {reason}" for check, reason in accepted.items()]
    notes += summary.warnings
    return Verdict(
        word=word,
        mark=_MARKS[tone],
        tone=tone,
        lines=tuple(summary.line.split("; ")) if summary.status != "published" else (_shown(subject),),
        todo=todo,
        commands=Commands(commands) if commands else None,
        figures=Figures(tuple(_figures(subject))),
        notes=Note(tuple(notes), "warn") if notes else None,
    )


def _shown(subject: Subject) -> str:
    rows = count_text(subject.summary.rows, "row")
    view = subject.files.markers["publish"]["view"]
    if subject.current is not None and subject.current.run_id != subject.files.run_id:
        return f"{rows}, verified; readers of {view} see the night of {subject.current.run_date} by now"
    return f"{rows}, verified; readers see them in {view}"


def _todo(subject: Subject) -> tuple[str, tuple[str, ...]]:
    summary, date = subject.summary, f"--date {subject.files.run_date}"
    again = subject.command("run", date)
    readers = (
        f"Readers see the night of {subject.current.run_date}, {count_text(subject.current.rows, 'row')}."
        if subject.current is not None
        else "Nothing is published yet, so readers see nothing."
    )
    match summary.status, summary.stage:
        case "published", _:
            return _to_look_at(subject), ()
        case "kept", _:
            back = subject.command("rollback", f"--to {subject.files.run_date}")
            return "Readers see a night of a later date. To show them this one:", (back,)
        case "refused", "prepare":
            return f"{readers} Mend the source, or what the job file expects of it, then run again:", (again,)
        case "refused", "evaluate":
            return (
                f"{readers} Look at the metrics by slice; change the model, the data or a threshold, then run again:",
                (again,),
            )
        case "refused", "publish":
            accept = subject.command("publish", date, '--accept CHECK --reason "…"')
            return f"{readers} Look at the changes; mend the cause and run again, or let the check through:", (
                again,
                accept,
            )
        case _:
            return (
                f"{readers} What is finished is kept: mend the cause (the whole story is in log.txt), then run again:",
                (again,),
            )


def _to_look_at(subject: Subject) -> str:
    """Of a night that readers see: the parts of the report that warn of something."""
    anomalies = read_anomalies(subject.files.text("anomalies.pbtxt"))
    found = [count_text(len(subject.summary.warnings), "warning")] if subject.summary.warnings else []
    found += [f"{count_text(len(anomalies), 'warning')} about the examples (see Anomalies)"] if anomalies else []
    return f"Nothing stopped it, but look at {join_words(found)}." if found else "Nothing has to be done."


def _figures(subject: Subject) -> list[Figure]:
    summary, figures = subject.summary, []
    if summary.rows is not None:
        figures.append(Figure("rows", f"{summary.rows:,}", "in tonight's table"))
    name = next((name for name in HEADLINE_METRICS if summary.metrics.get(name) is not None), None)
    if name is not None:
        figures.append(Figure(name, number(summary.metrics[name]), _against(subject, name)))
    if summary.changed_fraction is not None:
        against = f"since {subject.before.run_date}" if subject.before is not None else "since the night before"
        figures.append(Figure("changed", fraction_text(summary.changed_fraction), f"of the answers, {against}"))
    if summary.drift is not None:
        tone: Tone = "warn" if summary.drift > 1 else ""
        remark = f"of its threshold, at {summary.drifted_feature}"
        figures.append(Figure("largest drift", fraction_text(summary.drift), remark, tone))
    if summary.bad_rows:
        figures.append(Figure("bad rows", f"{summary.bad_rows:,}", "set aside", "warn"))
    stages = sum(stage != "monitor" for stage in subject.files.markers)
    figures.append(Figure("time", seconds_text(summary.seconds), f"in {count_text(stages, 'stage')}"))
    return figures


def _against(subject: Subject, metric: str) -> str:
    constant: Any = constant_metrics(subject, subject.summary.metrics, overall=True).get(metric)
    if constant is not None:
        return f"a constant answer: {number(constant)}"
    evaluation = subject.files.json("metrics.json")
    baseline = evaluation[0].get("baseline") if isinstance(evaluation, list) and evaluation else None
    for entry in (baseline or {}).get("slices", ()):
        if not entry["columns"] and entry["metrics"].get(metric) is not None:
            return f"the published model: {number(entry['metrics'][metric])}"
    return f"on {count_text(subject.summary.metrics.get('example_count'), 'example')}"
