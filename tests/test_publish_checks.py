"""A night that changes too much: readers keep yesterday's answers until a person says why it may pass."""

import json
import pathlib

import duckdb
import pytest
from conftest import FIRST_DATE, SECOND_DATE, SMALL, Workspace

pytestmark = pytest.mark.slow  # three whole nights; `test_prediction_checks.py` is the quick one

BUDGET = "publish.changes={threshold: 0.01, max_fraction: 0.05}"
CONTRACT = "publish.contracts.plausible={range: {weight_pounds: [0, 20]}, where: plurality = 'Single(1)'}"
NARROW = "publish.contracts.plausible={range: {weight_pounds: [19, 20]}}"


def rows(connection):
    """Everything in the view, as one number for each row's content."""
    return connection.sql("SELECT count(*), bit_xor(hash(p)) FROM natality_predictions p").fetchall()


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """A published night, and the next one's run directory with all but its publication: another model, other answers."""
    workspace = Workspace(tmp_path_factory.mktemp("checked"), *SMALL, "model.training.every=run")
    workspace.run("run", "--date", str(FIRST_DATE))
    workspace.told = workspace.folder / "told.json"
    notify = f"notify=[{{kind: command, command: [tee, {workspace.told}]}}]"
    workspace.overrides = (*workspace.overrides, "model.training.seed=1", BUDGET, CONTRACT, notify)
    with duckdb.connect(str(workspace.folder / "natality" / "natality.duckdb"), read_only=True) as analyst:
        workspace.seen_before = rows(analyst)
        workspace.refused = workspace.run("run", "--date", str(SECOND_DATE), code=3)
        workspace.still_open = rows(analyst)
    return workspace


def shown(workspace, sql="FROM natality_runs"):
    with duckdb.connect(str(workspace.folder / "natality" / "natality.duckdb"), read_only=True) as connection:
        return rows(connection) if sql is None else connection.sql(sql).fetchall()


def told(workspace):
    """How the last night ended: what the hook was told and the outcome says, and whether the report has it refused."""
    outcome = json.loads((workspace.run_path(SECOND_DATE) / "outcome.json").read_text())
    news = json.loads(workspace.told.read_text())
    assert (news["status"], news["exit_code"], news["line"]) == (
        outcome["status"],
        outcome["exit_code"],
        outcome["line"],
    )
    page = pathlib.Path(news["report"]).read_text(encoding="utf-8")
    return news["status"], news["exit_code"], "Refused by publish" in page


def test_a_night_over_its_budget_is_refused_and_a_person_lets_it_through(nights):
    """One story, in order: each command starts a process."""
    lines = [line for line in nights.refused.err.splitlines() if line.startswith("error: ")]
    (line,) = lines
    assert line.startswith("error: check 'changes.weight_pounds' failed: weight_pounds moved by more than 0.01 in ")
    assert " %, at most 5 %), first is_male=" in line
    assert line.count("weight_pounds before=") == 3
    assert f"publish {nights.command('x')[4]} --date {SECOND_DATE} --accept changes.weight_pounds --reason" in line
    assert nights.seen_before == nights.still_open == shown(nights, None)
    changes = nights.json("changes")
    assert (changes["run_date"], changes["against"], changes["verdict"]) == (
        str(SECOND_DATE),
        str(FIRST_DATE),
        "refused",
    )
    assert changes["overall"]["common"] == nights.seen_before[0][0]
    assert {check["name"]: check["passed"] for check in changes["checks"]} == {
        "plausible": True,
        "changes.weight_pounds": False,
    }
    unknown = nights.run("publish", "--date", str(SECOND_DATE), "--accept", "changes.weight", "--reason", "x", code=2)
    assert "no such check of this night; did you mean 'changes.weight_pounds'?" in unknown.err
    nights.run("publish", "--date", str(SECOND_DATE), "--accept", "changes.weight_pounds", code=2)
    assert told(nights) == ("refused", 3, True)
    accept = ("--accept", "changes.weight_pounds", "--reason", "another  seed")
    nights.run("publish", "--date", str(SECOND_DATE), *accept)
    assert shown(nights, None) != nights.seen_before
    assert told(nights) == ("published", 0, False)
    accepted = "SELECT run_date, accepted FROM natality_runs ORDER BY run_date"
    expected = [(FIRST_DATE, {}), (SECOND_DATE, {"changes.weight_pounds": "another seed"})]
    assert shown(nights, accepted) == expected
    assert nights.json("changes")["verdict"] == "accepted"
    (count,) = shown(nights, "SELECT count(*) FROM natality_changes WHERE change_kind = 'changed'")[0]
    assert count >= changes["overall"]["outputs"]["weight_pounds"]["changed"] > 0
    again = nights.run("run", "--date", str(SECOND_DATE))
    assert "publish      done before" in again.err  # and it asks nobody again
    assert "monitor      done before" in again.err
    assert "notify" not in again.err
    assert shown(nights, accepted) == expected
    nights.overrides = (*nights.overrides, NARROW)
    refused = nights.run("publish", "--date", str(SECOND_DATE), code=3)
    assert "check 'plausible' failed: weight_pounds is not in [19, 20] in" in refused.err
