"""How good the model is: metrics by slice, beside the published model, a constant answer, and the thresholds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_jobs.lineage import CHOSEN_FILE
from beam_jobs.report.constant_predictor import constant_metrics
from beam_jobs.report.drawing import BAD, BEFORE, INK, SOFT, TONIGHT, css, panel, svg_of
from beam_jobs.report.parts import Beside, Block, Cell, Key, Note, Picture, Pictures, Row, Section, Table, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, number, shortened

SHOWN = (
    "auc",
    "mae",
    "rmse",
    "r2",
    "bias",
    "accuracy",
    "top_k_accuracy",
    "precision",
    "recall",
    "log_loss",
    "calibration",
)
MOST_SLICES, DRAWN_SLICES = 40, 14
_WORDS = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "auc": "area under the ROC curve",
    "log_loss": "logarithmic loss",
    "accuracy": "part of right answers",
}
_RESULTS: dict[str, Tone] = {"passed": "good", "failed": "bad", "skipped": "quiet"}
Metrics = Mapping[str, float | None]


def quality_section(subject: Subject) -> Section | None:
    """Metrics of a night that judged its model."""
    evaluation, blessing = subject.files.json("metrics.json"), subject.files.markers.get("evaluate")
    if not isinstance(evaluation, list) or not evaluation:
        return None
    candidate, baseline = evaluation[0]["candidate"]["slices"], (evaluation[0].get("baseline") or {}).get("slices", ())
    checks = (blessing or {}).get("checks", ())
    by_slice = {entry["slice"]: entry["metrics"] for entry in baseline}
    blocks: list[Block] = []
    if chosen := subject.files.tree(CHOSEN_FILE).get("model_version"):
        blocks.append(Note((f"Of the night's own model; the night is scored with {chosen}, which was chosen for it.",)))
    if blessing is not None and not blessing["blessed"]:
        blocks.append(Note(tuple(blessing["reasons"]), "bad"))
    elif warnings := (blessing or {}).get("warnings"):
        blocks.append(Note(tuple(warnings), "warn"))
    pictures = Pictures(tuple(_pictures(subject, candidate, by_slice, checks)), _legend(bool(by_slice)))
    metrics = _metrics_table(candidate, is_folded=len(pictures.pictures) != 1)
    blocks += [Beside((pictures,), (metrics,))] if len(pictures.pictures) == 1 else [pictures, metrics]
    blocks += _class_table(candidate)
    if checks:
        blocks.append(_checks_table(checks))
    skew = (blessing or {}).get("skew")
    if isinstance(skew, dict):
        blocks.append(_skew_note(skew))
    failed = sum(check["result"] == "failed" for check in checks)
    lead = _lead(candidate, blessing, failed)
    warned: Tone = "warn" if blessing and blessing.get("warnings") else ""
    tone: Tone = "bad" if blessing and not blessing["blessed"] else warned
    return Section("quality", "Metrics", lead, tuple(blocks), tone)


def _overall(candidate: Sequence[Any]) -> Metrics:
    return next((entry["metrics"] for entry in candidate if not entry["columns"]), {})


def _lead(candidate: Sequence[Any], blessing: Mapping[str, Any] | None, failed: int) -> str:
    overall = _overall(candidate)
    text = f"On {count_text(overall.get('example_count'), 'eval example')}, in {count_text(len(candidate), 'slice')}"
    if blessing is None:
        return f"{text}."
    verdict = "the model is blessed" if blessing["blessed"] else "the model is not blessed"
    checks = len(blessing["checks"])
    if checks:
        verdict += (
            f": {failed} of {count_text(checks, 'check')} failed"
            if failed
            else f": {count_text(checks, 'check')}, none failed"
        )
    return f"{text}, {verdict}. Baseline: {blessing.get('baseline_note', 'none')}."


def _legend(has_baseline: bool) -> tuple[Key, ...]:
    keys = [Key("this model", css(TONIGHT), "dot"), Key("a constant answer", css(SOFT), "ring")]
    if has_baseline:
        keys.insert(1, Key("the published model", css(BEFORE), "dot"))
    return (*keys, Key("threshold", css(BAD), "line"))


def _pictures(
    subject: Subject, candidate: Sequence[Any], baseline: Mapping[str, Metrics], checks: Sequence[Any]
) -> Iterator[Picture]:
    """A panel for each metric that has a threshold, else for the one that says most."""
    overall = _overall(candidate)
    judged = list(dict.fromkeys(check["metric"] for check in checks))
    names = judged or [name for name in ("mae", "auc", "accuracy", "log_loss") if overall.get(name) is not None][:2]
    for name in names:
        slices = [entry for entry in candidate if entry["metrics"].get(name) is not None][:DRAWN_SLICES]
        if not slices:
            continue
        bounds = {
            check["slice"]: check["limit"] for check in checks if check["metric"] == name and "bound" in check["bound"]
        }
        constants = {
            entry["slice"]: constant_metrics(subject, entry["metrics"], not entry["columns"]).get(name)
            for entry in slices
        }
        said = _sentence(name, slices, baseline, constants.get("overall"), bounds.get("overall"))
        values = table(
            ("slice", name, "published model", "constant answer", "threshold"),
            [
                (
                    Cell(entry["slice"], wide=True),
                    number(entry["metrics"][name]),
                    number(baseline.get(entry["slice"], {}).get(name)),
                    number(constants[entry["slice"]]),
                    number(bounds.get(entry["slice"])),
                )
                for entry in slices
            ],
            numeric=(name, "published model", "constant answer", "threshold"),
            folded="Numbers",
        )
        svg = _draw(name, slices, baseline, constants, bounds, said)
        yield Picture(name, svg, said, _WORDS.get(name, ""), values)


def _sentence(
    name: str, slices: Sequence[Any], baseline: Mapping[str, Metrics], constant: float | None, bound: float | None
) -> str:
    overall = next((entry["metrics"][name] for entry in slices if not entry["columns"]), None)
    text = f"{number(overall)} overall"
    if baseline.get("overall", {}).get(name) is not None:
        text += f", the published model {number(baseline['overall'][name])}"
    if constant is not None:
        text += f", a constant answer {number(constant)}"
    if bound is not None:
        text += f", the threshold {number(bound)}"
    parts = [entry for entry in slices if entry["columns"]]
    if parts:
        low, high = (pick(parts, key=lambda entry: entry["metrics"][name]) for pick in (min, max))
        text += f"; from {number(low['metrics'][name])} ({low['slice']})"
        text += f" to {number(high['metrics'][name])} ({high['slice']})"
    return f"{text}."


def _draw(
    name: str,
    slices: Sequence[Any],
    baseline: Mapping[str, Metrics],
    constants: Mapping[str, float | None],
    bounds: Mapping[str, float],
    alternative: str,
) -> str:
    labels = [shortened(" · ".join(map(str, entry["columns"].values())), 24) or "overall" for entry in slices]
    figure, axes = panel(height=44 + 20 * max(len(slices), 2), left=int(min(165, 14 + 6.3 * max(map(len, labels)))))
    for row, entry in enumerate(slices):
        where, value = entry["slice"], entry["metrics"][name]
        before, constant, bound = baseline.get(where, {}).get(name), constants.get(where), bounds.get(where)
        others = [other for other in (before, constant) if other is not None]
        axes.hlines(row, min([value, *others]), max([value, *others]), color=SOFT, linewidth=0.8, alpha=0.6)
        if bound is not None:
            axes.plot([bound] * 2, [row - 0.42, row + 0.42], color=BAD, linewidth=1.8)
        if constant is not None:
            axes.scatter([constant], [row], s=26, facecolor="none", edgecolor=SOFT, linewidths=1.2, zorder=4)
        if before is not None:
            axes.scatter([before], [row], s=30, color=BEFORE, linewidths=0, zorder=5)
        axes.scatter([value], [row], s=34, color=TONIGHT, linewidths=0, zorder=6)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.set_yticks(range(len(slices)), labels)
    for tick in axes.get_yticklabels():
        tick.set_color(INK)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=4)
    return svg_of(figure, alternative)


def _metrics_table(candidate: Sequence[Any], is_folded: bool) -> Table:
    known = {name for entry in candidate for name, value in entry["metrics"].items() if value is not None}
    names = [name for name in SHOWN if name in known]
    rows: list[Row] = [
        (
            Cell(entry["slice"].replace(",", ", "), wide=True),
            f"{entry['metrics']['example_count']:,}",
            *(number(entry["metrics"].get(name)) for name in names),
        )
        for entry in candidate[:MOST_SLICES]
    ]
    more = len(candidate) - MOST_SLICES
    note = f"{more:,} more slices are in metrics.json." if more > 0 else ""
    headers = ("slice", "examples", *names)
    return table(headers, rows, numeric=headers[1:], folded="All metrics by slice" if is_folded else None, note=note)


def _class_table(candidate: Sequence[Any]) -> list[Block]:
    overall = _overall(candidate)
    classes = [name.removeprefix("f1/") for name in overall if name.startswith("f1/")]
    if not classes:
        return []
    names = ("precision", "recall", "f1")
    rows: list[Row] = [
        (
            Cell(shortened(label_class, 60), wide=True),
            *(
                Cell(number(value), bar=value) if (value := overall.get(f"{name}/{label_class}")) is not None else "–"
                for name in names
            ),
        )
        for label_class in classes[:MOST_SLICES]
    ]
    more = len(classes) - MOST_SLICES
    note = f"{more:,} more classes are in metrics.json." if more > 0 else ""
    return [table(("class", *names), rows, numeric=names, caption="Class by class, on the whole eval split", note=note)]


def _checks_table(checks: Sequence[Any]) -> Table:
    rows: list[Row] = []
    for check in sorted(checks, key=lambda check: ("failed", "passed", "skipped").index(check["result"])):
        result = Cell(check["result"], _RESULTS[check["result"]])
        bound = str(check["bound"]).replace("_", " ").replace(".", ", ")
        value = number(check["value"])
        why = Cell(check["reason"] or "", "quiet", wide=True)
        rows.append(
            (result, check["metric"], Cell(check["slice"], wide=True), bound, number(check["limit"]), value, why)
        )
    headers = ("result", "metric", "slice", "bound", "limit", "value", "why")
    return table(headers, rows, numeric=("limit", "value"), folded=f"Threshold checks: {len(checks)}")


def _skew_note(skew: Mapping[str, Any]) -> Note:
    off = {name: count for name, count in skew["mismatches"].items() if count}
    if off:
        return Note(
            tuple(f"{name}: training and serving differ in {count:,} rows" for name, count in off.items()), "bad"
        )
    return Note(
        (f"Training read the features that serving computes, byte for byte, in {skew['rows']:,} rows.",), "good"
    )
