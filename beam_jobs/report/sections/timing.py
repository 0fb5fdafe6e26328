"""The stages with their times."""

from beam_jobs.report.parts import Cell, Section, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, seconds_text

_WORK = {
    "prepare": "read, checked and split the examples",
    "train": "trained the model",
    "evaluate": "judged it on the eval split",
    "plan": "planned the input space",
    "precompute": "scored it",
    "publish": "loaded, verified, switched",
}


def stages_section(subject: Subject) -> Section | None:
    """A bar for each stage, from where the one before it ended."""
    files, summary = subject.files, subject.summary
    stages = [stage for stage in files.stages if stage in _WORK]
    if not stages:
        return None
    total = sum(files.markers[stage]["seconds"] for stage in stages if stage in files.markers)
    rows, elapsed = [], 0.0
    for stage in stages:
        marker = files.markers.get(stage)
        if marker is None:
            stopped = stage == summary.stage
            word = {"refused": "refused here", "failed": "failed here"}.get(summary.status, "not done")
            tone: Tone = ("warn" if summary.status == "refused" else "bad") if stopped else "quiet"
            rows.append((stage, "", Cell("", bar=0.0), Cell(word if stopped else "not reached", tone, wide=True)))
            continue
        seconds, refused = marker["seconds"], stage == summary.stage and summary.status == "refused"
        about = Cell("refused here", "warn") if refused else Cell(_work(subject, stage), "quiet", wide=True)
        bar = Cell("", bar=seconds / total if total else 0.0, start=elapsed / total if total else 0.0)
        rows.append((stage, seconds_text(seconds), bar, about))
        elapsed += seconds
    done = len(summary_done := [stage for stage in stages if stage in files.markers])
    longest = max(summary_done, key=lambda stage: files.markers[stage]["seconds"], default=None)
    lead = f"{done} of {len(stages)} stages are done, in {seconds_text(total)}"
    if longest is not None and total:
        lead += f"; {longest} took {files.markers[longest]['seconds'] / total:.0%} of it"
    times = table(("stage", "time", "course", "what it did"), rows, numeric=("time",))
    return Section("stages", "Stages", f"{lead}.", (times,))


def _work(subject: Subject, stage: str) -> str:
    marker = subject.files.markers[stage]
    if stage == "train" and "trained_on" in marker:
        return f"no training was due: the model of {marker['trained_on']}"
    if stage == "train" and "epochs" in marker:
        return f"{count_text(marker['epochs'], 'epoch')}, best {marker.get('best_epoch', '–')}"
    return _WORK[stage]
