"""What tonight's table changes against the one that readers saw: how many answers, how much, where, which most."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_jobs.report.drawing import SOFT, TONIGHT, panel, svg_of
from beam_jobs.report.parts import Beside, Block, Cell, Note, Picture, Pictures, Row, Section, Table, Tone, table
from beam_jobs.report.subject import Subject
from beam_jobs.report.wording import count_text, fraction_text, number, value_text

MOST_SLICES, MOST_MOVERS = 15, 20


def changes_section(subject: Subject) -> Section | None:
    """The checks and the comparison that `publish` made before the switch."""
    changes = subject.files.tree("changes.json")
    if not changes:
        return None
    overall = changes.get("overall")
    blocks: list[Block] = []
    if changes.get("refusals"):
        blocks.append(Note(tuple(changes["refusals"]), "bad"))
    if changes.get("checks"):
        blocks.append(_checks_table(changes["checks"]))
    note = str(changes.get("note") or "there is no night to compare with")
    lead = f"{note[0].upper()}{note[1:]}."
    if overall:
        if changes.get("note"):
            blocks.append(Note((note,)))
        blocks += _comparison(changes, overall)
        common = count_text(overall["common"], "common row")
        lead = f"Against the night of {changes['against']}: {fraction_text(changes['changed_fraction'])} of {common}"
        lead += f" changed, {overall['new']:,} new, {overall['gone']:,} gone."
    failed = [check for check in changes.get("checks") or () if not check["passed"]]
    unjudged = [check for check in changes.get("checks") or () if check.get("warning")]
    tone: Tone = "bad" if changes.get("refusals") else "warn" if failed or unjudged else ""
    return Section("changes", "Changes", lead, tuple(blocks), tone)


def _comparison(changes: Mapping[str, Any], overall: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [_outputs_table(overall["outputs"])]
    if not changes.get("changed_fraction") and not overall["new"] and not overall["gone"]:
        return blocks
    pictures = tuple(_pictures(overall["outputs"], overall["common"], changes.get("quantile_rows") or 1))
    slices = tuple(_slice_tables(changes))
    if len(pictures) == 1:
        blocks.append(Beside((Pictures(pictures),), slices))
    else:
        blocks += [*([Pictures(pictures)] if pictures else []), *slices]
    blocks += _mover_tables(changes.get("movers") or {}, "rows in which {} moved farthest")
    blocks += _mover_tables(changes.get("flips") or {}, "of the rows in which {} is another class")
    return blocks


def _checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[Row] = []
    for check in sorted(checks, key=lambda check: check["passed"]):
        result = Cell("passed", "good") if check["passed"] else Cell("failed", "bad")
        if check.get("accepted") is not None:
            result = Cell("accepted", "warn")
        if check.get("warning"):
            result = Cell("not judged", "warn")
        why = f"{check['finding']}; accepted: {check['accepted']}" if check.get("accepted") else check["finding"]
        why += f"; {check['warning']}" if check.get("warning") else ""
        limit = "–" if check.get("limit") is None else fraction_text(check["limit"])
        part = fraction_text(_fraction(check["rows"], check["of"])) if check["of"] else "–"
        rows.append((result, check["name"], Cell(why, wide=True), f"{check['rows']:,}", part, limit))
    headers = ("result", "check", "finding", "rows", "of all", "allowed")
    return table(headers, rows, numeric=headers[3:], caption="Checks on the predictions, before the switch")


def _fraction(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _outputs_table(outputs: Mapping[str, Any]) -> Table:
    rows: list[Row] = [
        (
            name,
            f"{output['changed']:,}",
            Cell(fraction_text(output["fraction"]), bar=output["fraction"] or 0.0),
            "is another class" if output["is_class"] else f"moved by more than {number(output['threshold'])}",
            "–" if output["limit"] is None else fraction_text(output["limit"]),
            number(output.get("mean")),
            number(output.get("mean_absolute")),
        )
        for name, output in outputs.items()
    ]
    headers = ("output", "rows", "of all", "changed is what", "allowed", "mean change", "mean size")
    return table(headers, rows, numeric=("rows", "of all", "allowed", "mean change", "mean size"))


def _pictures(outputs: Mapping[str, Any], common: int, quantile_rows: int) -> Iterator[Picture]:
    for name, output in outputs.items():
        quantiles = {float(percent): value for percent, value in (output.get("quantiles") or {}).items()}
        if len(quantiles) < 3:
            continue
        percents, values = list(quantiles), list(quantiles.values())
        said = (
            f"The change of {name} over {count_text(common, 'row')}: from {number(values[0])} to {number(values[-1])}"
        )
        middle = quantiles.get(50.0)
        said += f", median {number(middle)}." if middle is not None else "."
        if quantile_rows > 1:
            said += f" What lies between is of 1 row in {quantile_rows:,}."
        figure, axes = panel(height=160, left=46)
        axes.axhline(0, color=SOFT, linewidth=0.8)
        axes.plot(percents, values, color=TONIGHT, marker="o", markersize=4)
        axes.fill_between(percents, values, 0, color=TONIGHT, alpha=0.15, linewidth=0)
        axes.set_xlim(-2, 102)
        axes.set_xticks([0, 25, 50, 75, 100], ["least", "25 %", "50 %", "75 %", "most"])
        axes.locator_params(axis="y", nbins=4)
        rows: list[Row] = [(_percent(percent), number(value)) for percent, value in quantiles.items()]
        numbers = table(("of the rows", "change at most"), rows, numeric=("change at most",), folded="Numbers")
        yield Picture(name, svg_of(figure, said), said, "change, tonight less the night before", numbers)


def _percent(percent: float) -> str:
    return {0.0: "lowest", 100.0: "highest"}.get(percent, f"{percent:g} %")


def _slice_tables(changes: Mapping[str, Any]) -> list[Block]:
    slices = [entry for entry in changes.get("slices") or () if entry.get("slice")]
    if not slices:
        return []
    ranked = sorted(slices, key=lambda entry: (-_slice_fraction(entry), -_mean_size(entry)))
    rows: list[Row] = []
    for entry in ranked[:MOST_SLICES]:
        part = _slice_fraction(entry)
        name = ", ".join(f"{column} = {value_text(value)}" for column, value in entry["slice"].items())
        means = [output.get("mean") for output in entry["outputs"].values()]
        mean = next((value for value in means if value is not None), None)
        counts = (f"{entry['common']:,}", f"{entry['new']:,}", f"{entry['gone']:,}")
        rows.append((Cell(name, wide=True), *counts, Cell(fraction_text(part), bar=part), number(mean)))
    headers = ("slice", "common rows", "new", "gone", "changed", "mean change")
    more = len(slices) - MOST_SLICES
    note = f"The {MOST_SLICES} that changed most; {more:,} more are in changes.json." if more > 0 else ""
    return [table(headers, rows, numeric=headers[1:], caption="Where it changed", note=note)]


def _mean_size(entry: Mapping[str, Any]) -> float:
    return max((output.get("mean_absolute") or 0.0 for output in entry["outputs"].values()), default=0.0)


def _slice_fraction(entry: Mapping[str, Any]) -> float:
    return max((output["fraction"] or 0.0 for output in entry["outputs"].values()), default=0.0)


def _mover_tables(found: Mapping[str, Sequence[Mapping[str, Any]]], caption: str) -> list[Block]:
    blocks: list[Block] = []
    for name, movers in found.items():
        if not movers:
            continue
        keys = list(movers[0]["key"])
        moves = movers[0]["change"] is not None
        rows: list[Row] = [
            (
                *(Cell(value_text(mover["key"][key]), wide=True) for key in keys),
                _value(mover["before"], name),
                _value(mover["now"], name),
                *([f"{mover['change']:+.4g}"] if moves else []),
            )
            for mover in movers[:MOST_MOVERS]
        ]
        numbers = ("before", "tonight", *(["change"] if moves else []))
        said = f"The {len(rows)} {caption.format(name)}"
        blocks.append(table((*keys, *numbers), rows, numeric=numbers, caption=said))
    return blocks


def _value(cells: Mapping[str, Any], output: str) -> str:
    shown = [cells[output]] if output in cells else list(cells.values())
    return " / ".join(number(value) if isinstance(value, float) else value_text(value) for value in shown)
