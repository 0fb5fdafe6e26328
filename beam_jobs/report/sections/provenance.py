"""Where the table comes from: run, model, hashes, code, and the libraries that computed it."""

from beam_jobs.lineage import CHOSEN_FILE
from beam_jobs.report.parts import Block, Cell, Row, Section, table
from beam_jobs.report.subject import Subject


def provenance_section(subject: Subject) -> Section:
    """Everything that names what was computed, to copy."""
    files, markers = subject.files, subject.files.markers
    manifest, training = markers.get("precompute", {}).get("manifest", {}), markers.get("train", {})
    published = markers.get("publish", {})
    named = {
        "run": files.run_id,
        "run date": files.run_date.isoformat(),
        "run directory": files.path,
        "model": manifest.get("model_version") or training.get("model_version"),
        "model from": files.tree(CHOSEN_FILE).get("run_path")
        or training.get("trained_in")
        or (subject.job.get("model") or {}).get("saved_model"),
        "transform graph": manifest.get("transform_hash") or training.get("transform_hash"),
        "input space": manifest.get("space_hash"),
        "table": published.get("table"),
        "warehouse": published.get("warehouse"),
        "finished": subject.summary.finished_at,
    }
    rows: list[Row] = [(name, Cell(str(value), "quiet", wide=True)) for name, value in named.items() if value]
    checks = published.get("checks") or {}
    blocks: list[Block] = [table(("this night", ""), rows)]
    if checks:
        proved = [(name, Cell(str(finding), wide=True)) for name, finding in checks.items()]
        blocks.append(table(("verified before the switch", ""), proved))
    versions = files.outcome.get("versions") or {}
    if versions:
        blocks.append(table(("library", "version"), list(versions.items()), folded="Versions", numeric=("version",)))
    return Section("lineage", "Lineage", "What this table was computed from, and by what.", tuple(blocks))
