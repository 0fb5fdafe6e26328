"""The source's columns, also those that the job does not read: what came and what went since the last published night.

Each change is told once, on the night that sees it: which columns a job reads is for the job file to say.
"""

from collections.abc import Sequence

from beam_jobs import lineage
from beam_jobs.night import Night
from beam_jobs.workspace.run_directory import MARKERS
from configs.errors import ForetableError, RefusedError
from transforms.examples.anomaly import Anomaly


def changed_columns(night: Night, names: Sequence[str] | None) -> list[Anomaly]:
    """Columns that the job does not read, and that are there since the last published night, or no more.

    Args:
        names: of all columns that the source has tonight; None where it cannot tell them.
    """
    if names is None:
        return []
    anomalies: list[Anomaly] = []
    for before in lineage.published_nights(night.run, 1):
        known = (before.read_marker(MARKERS["prepare"]) or {}).get("source_columns")
        if known is None:  # nor does the marker of an older version
            continue
        unread = dict.fromkeys(name for name in (*names, *known) if name not in night.trained_job.read_columns)
        for name in unread:
            if name not in known:
                long = f"{name} came into the source after the night of {before.run_date}; the job does not read it"
                anomalies.append(Anomaly("source", "WARNING", "new column", long, name, "SCHEMA_NEW_COLUMN"))
            elif name not in names:
                long = f"{name} left the source after the night of {before.run_date}; the job does not read it"
                anomalies.append(Anomaly("source", "WARNING", "column vanished", long, name, "SCHEMA_MISSING_COLUMN"))
    return anomalies


def refusal(night: Night, error: RefusedError) -> Anomaly:
    """What it says of the examples that their source was refused: the first column that is gone, if one is."""
    try:
        names = night.open_source(night.trained_job.source, {}).column_names()
    except ForetableError:  # for the reason that is told already
        names = None
    there = None if names is None else {name.casefold() for name in names}  # BigQuery does not tell case apart
    gone = [name for name in night.trained_job.read_columns if there is not None and name.casefold() not in there]
    if gone:
        return Anomaly("source", "ERROR", "column vanished", str(error), gone[0], "SCHEMA_MISSING_COLUMN")
    return Anomaly("source", "ERROR", "cannot be read", str(error))
