"""What was read: the source, the rows of each split, and the rows that were set aside."""

import json
from typing import Any

from beam_jobs.report.parts import Block, Cell, Note, Row, Section, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, number, shortened

SHOWN_BAD_ROWS = 10


def examples_section(subject: Subject) -> Section | None:
    """Sources and rows of a night that read examples."""
    prepared, ingestion = subject.files.markers.get("prepare"), subject.files.json("ingestion.json")
    summary = ingestion[0] if isinstance(ingestion, list) and ingestion else None
    if summary is None and prepared is None:
        return None
    splits = _split_rows(summary, prepared)
    total = sum(splits.values())
    bad_rows = (summary or {}).get("bad_rows_count", (prepared or {}).get("bad_rows", 0))
    label_means = _label_means(subject)
    rows: list[Row] = [
        (split, f"{count:,}", fraction_text(count / total if total else 0), label_means.get(split, "–"))
        for split, count in splits.items()
    ]
    label = (subject.job.get("label") or {}).get("name", "label")
    blocks: list[Block] = [
        table(("split", "rows", "share", f"mean of {label}"), rows, numeric=("rows", "share", f"mean of {label}")),
        table(("source", "where"), [(name, Cell(where, wide=True)) for name, where in _sources(subject)]),
    ]
    if bad_rows:
        blocks += _bad_rows(subject, bad_rows)
    lead = f"{count_text(total, 'row')} {'was' if total == 1 else 'were'} read"
    lead += f", {count_text(bad_rows, 'bad row')} set aside." if bad_rows else ", none of them bad."
    return Section("examples", "What was read", lead, tuple(blocks), "warn" if bad_rows else "")


def _split_rows(summary: Any, prepared: Any) -> dict[str, int]:
    if prepared is not None:
        return dict(prepared["rows"])
    splits = {"train": 0, "eval": 0}
    for shard in summary["shards"]:
        splits[shard["split"]] = splits.get(shard["split"], 0) + shard["rows"]
    return splits


def _label_means(subject: Subject) -> dict[str, str]:
    label = (subject.job.get("label") or {}).get("name")
    found = {split: features.get(label or "") for split, features in subject.statistics.items()}
    return {split: number(stats.mean) for split, stats in found.items() if stats is not None and stats.mean is not None}


def _sources(subject: Subject) -> list[tuple[str, str]]:
    sources = [("examples", subject.job.get("source"))]
    split = subject.job.get("split") or {}
    if isinstance(split.get("eval"), dict):
        sources.append(("eval split", split["eval"]))
    sources.append(("serving traffic", subject.job.get("traffic")))
    return [(name, source_text(source)) for name, source in sources if source]


def source_text(source: dict[str, Any]) -> str:
    """A source in one line."""
    kind = source.get("kind")
    if kind == "sample":
        return f"synthetic rows of the {source['name']} generator, {source['rows']:,} of them, seed {source['seed']}"
    if kind == "bigquery":
        return f"BigQuery {source.get('table') or shortened(' '.join((source.get('query') or '').split()), 200)}"
    return f"{kind}: {', '.join(source.get('files', ()))}"


def _bad_rows(subject: Subject, count: int) -> list[Block]:
    lines = (subject.files.text("bad_rows.jsonl") or "").splitlines()[:SHOWN_BAD_ROWS]
    rows: list[Row] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        where = str(row.get("file", "")).rpartition("/")[2]
        at = f"{where}:{row['line']}" if row.get("line") is not None else where
        rows.append((at, Cell(str(row.get("reason", "")), wide=True)))
    note = f"The first {len(rows)} of {count:,}; more are in bad_rows.jsonl." if count > len(rows) else ""
    if not rows:
        return [Note((f"{count_text(count, 'bad row')}; they are in bad_rows.jsonl.",), "warn")]
    return [table(("bad row", "why"), rows, caption="Rows set aside", note=note)]
