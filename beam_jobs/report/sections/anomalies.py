"""What is wrong with the examples, as the checks found it."""

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2

from beam_jobs.report.parts import Cell, Row, Section, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text

_TONES: dict[str, Tone] = {"ERROR": "bad", "WARNING": "warn"}


def anomalies_section(subject: Subject) -> Section | None:
    """Errors first, then warnings."""
    found = read_anomalies(subject.files.text("anomalies.pbtxt"))
    if found is None:
        return None
    errors = sum(severity == "ERROR" for severity, *_ in found)
    if not found:
        return Section("anomalies", "Anomalies", "The examples are what the job expects: no anomaly.")
    rows: list[Row] = [
        (Cell(severity.lower(), _TONES.get(severity, "")), Cell(where), Cell(short, wide=True), Cell(long, wide=True))
        for severity, where, short, long in sorted(found)
    ]
    lead = f"{count_text(errors, 'error')} and {count_text(len(found) - errors, 'warning')}."
    shown = table(("severity", "column", "what", "in detail"), rows)
    return Section("anomalies", "Anomalies", lead, (shown,), "bad" if errors else "warn")


def read_anomalies(text: str | None) -> list[tuple[str, str, str, str]] | None:
    """Severity, column, short and long description of each reason in the text of an `anomalies.pbtxt`.

    None where the examples were not checked. A column has one severity, the worst of its reasons'.
    """
    if text is None:
        return None
    try:
        parsed = text_format.Parse(text, anomalies_pb2.Anomalies(), allow_unknown_field=True)
    except text_format.ParseError:
        return None
    infos = list(parsed.anomaly_info.items())
    if parsed.HasField("dataset_anomaly_info"):
        infos.insert(0, ("all of them", parsed.dataset_anomaly_info))
    name_of = anomalies_pb2.AnomalyInfo.Severity.Name
    return [
        (name_of(info.severity), column, reason.short_description, reason.description)
        for column, info in infos
        for reason in info.reason
    ]
