"""Contracts and budgets as checks with names: what refuses a night, in which words, and what a person may accept."""

import dataclasses
import json

import pytest
from nights import AXES, COLUMNS, DAY, make_night, points, publish
from test_changes import CLASSES, class_values, with_values
from test_contracts import contracts

from beam_jobs.commands.changes_tables import print_changes
from beam_jobs.prediction_checks import check_names, check_predictions
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.workspace.changes_file import changes_tree
from configs.contract_agreement import DeclaredOutputs
from configs.contracts import ChangeBudget
from transforms.scoring.shards import TableColumn

WEIGHT = DeclaredOutputs({"weight": "float"}, {})
SECOND = DAY.replace(day=2)


@pytest.fixture
def warehouse(tmp_path):
    return DuckDBWarehouse(str(tmp_path / "natality.duckdb"))


def first_and_second(tmp_path, warehouse, now, before=lambda position: {"weight": 7.0}, **settings):
    """A published night, and the next one that comes."""
    publish(warehouse, make_night(tmp_path / "1", run_id="r1", rewrite=with_values(before), **settings))
    return make_night(tmp_path / "2", run_date=SECOND, run_id="r2", rewrite=with_values(now), **settings)


def check(warehouse, night, budget=None, outputs=WEIGHT, classes=(), slices=(), **trees):
    return check_predictions(
        warehouse, night, contracts(**trees), ChangeBudget(**(budget or {})), outputs, classes, slices
    )


def test_the_first_night_is_compared_with_none(tmp_path, warehouse):
    night = make_night(tmp_path)
    report = check(warehouse, night, {"max_fraction": 0.0}, plausible={"range": {"weight": [0, 100]}})
    assert (report.refusals, report.changes, report.note) == ((), None, "there is no night to compare with")
    assert [(c.name, c.passed, c.finding) for c in report.checks] == [
        ("plausible", True, "weight is in [0, 100] in 24 rows")
    ]
    tree = changes_tree(night, report, ChangeBudget())
    assert (tree["verdict"], tree["against"], tree["overall"], tree["changed_fraction"]) == ("passed", None, None, None)


def test_a_contract_that_judges_no_row_warns(tmp_path, warehouse, capsys):
    night = make_night(tmp_path)
    kept = {"range": {"weight": [0, 100]}}
    report = check(warehouse, night, typo=kept | {"where": "sex = 'Unknown'"}, right=kept | {"where": "sex = 'True'"})
    warning = "no row of the table is judged by it: look at its condition (where)"
    assert [(c.name, c.passed, c.of, c.warning) for c in report.checks] == [
        ("typo", True, 0, warning),
        ("right", True, 8, None),
    ]
    print_changes(changes_tree(night, report, ChangeBudget()))
    printed = " ".join(capsys.readouterr().out.split())
    assert f"typo not judged weight is in [0, 100] in 0 rows; {warning}" in printed


def test_a_broken_contract_refuses_with_three_rows(tmp_path, warehouse):
    night = make_night(tmp_path, rewrite=with_values(lambda position: {"weight": float(position)}))
    (refusal,) = check(
        warehouse, night, plausible={"range": {"weight": [None, 19]}}, there={"not_null": "weight"}
    ).refusals
    assert refusal.problem == (
        "check 'plausible' failed: weight is not at most 19 in 4 of 24 rows, first "
        "sex=NULL weeks=NULL children=2: weight=23; sex=NULL weeks=NULL children=1: weight=22; "
        "sex=NULL weeks=38.5 children=2: weight=21"
    )


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({}, None),
        ({"max_fraction": 0.25}, None),
        (
            {"max_fraction": 0.2},
            "check 'changes.weight' failed: weight is another in 6 of 24 rows (25 %, at most 20 %), first "
            "sex='True' weeks=38.0 children=1: weight before=7 weight now=9; "
            "sex='True' weeks=38.0 children=2: weight before=7 weight now=9; "
            "sex='True' weeks=38.25 children=1: weight before=7 weight now=9",
        ),
        ({"max_fraction": 0.0, "threshold": 2.0}, None),
        ({"max_fraction": 0.2, "outputs": {"weight": {"threshold": 2.5}}}, None),
        (
            {"outputs": {"weight": {"max_fraction": 0.0}}},
            "check 'changes.weight' failed: weight is another in 6",
        ),
        ({"max_flips": 0.0, "max_new": 0.0, "max_gone": 0.0}, None),
    ],
    ids=["no budget", "within", "over", "small moves", "own threshold", "own fraction", "other limits"],
)
def test_a_budget_of_changes(tmp_path, warehouse, budget, problem):
    night = first_and_second(tmp_path, warehouse, lambda p: {"weight": 9.0 if p < 6 else 7.0})
    refusals = check(warehouse, night, budget).refusals
    assert [refusal.problem.startswith(problem or "?") for refusal in refusals] == ([True] if problem else [])


def test_a_fraction_of_the_rows_is_exact(tmp_path, warehouse):
    """0.29 times 100 is less than 29 in floats."""
    axes = {"children": {"children": list(range(100))}}
    settings = {"axes": axes, "columns": COLUMNS[2:]}
    for changed, refused in ((29, []), (30, ["changes.weight"])):
        night = first_and_second(
            tmp_path / str(changed),
            warehouse,
            lambda p, changed=changed: {"weight": 9.0 if p < changed else 7.0},
            **settings,
        )
        assert [refusal.name for refusal in check(warehouse, night, {"max_fraction": 0.29}).refusals] == refused


def test_rows_that_are_new_and_gone_have_a_budget(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    axes = AXES | {"children": {"children": [2, 3]}}
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", axes=axes)
    assert check(warehouse, night, {"max_new": 0.5, "max_gone": 0.5}).refusals == ()
    new, gone = check(warehouse, night, {"max_new": 0.4, "max_gone": 0.3}).refusals
    assert new.problem == (
        "check 'new_rows' failed: not there before in 12 of 24 rows (50 %, at most 40 %), first "
        "sex='False' weeks=38.0 children=3; sex='False' weeks=38.25 children=3; sex='False' weeks=38.5 children=3"
    )
    assert gone.problem.startswith(
        "check 'gone_rows' failed: not there any more in 12 of 24 rows (50 %, at most 30 %), first sex="
    )


def test_classes_have_flips_and_their_probabilities_move_as_one(tmp_path, warehouse):
    outputs = DeclaredOutputs(
        {column.name: column.type for column in CLASSES if column.role == "output"},
        {"size_probabilities": ("size_probability_small", "size_probability_large")},
    )
    night = first_and_second(
        tmp_path,
        warehouse,
        lambda p: class_values(0.25 if p == 3 else 0.75, tip=int(p in (1, 2))),
        lambda p: class_values(0.75),
        columns=CLASSES,
    )
    budget = {"max_fraction": 0.0, "max_flips": 0.05, "threshold": 0.1}
    sums = {"sums": {"sums_to_one": "size_probabilities"}}
    report = check(warehouse, night, budget, outputs, classes=("tip",), **sums)
    assert {c.name: (c.passed, c.rows, c.limit) for c in report.checks} == {
        "sums": (True, 0, None),
        "changes.size": (True, 1, 0.05),
        "changes.tip": (False, 2, 0.05),
        "changes.place": (True, 0, 0.0),
        "changes.size_probabilities": (False, 1, 0.0),
    }
    tip, probabilities = report.refusals
    assert tip.problem.endswith(
        "sex='True' weeks=38.0 children=2: tip before=0 tip now=1; sex='True' weeks=38.25 children=1: tip before=0 tip now=1"
    )
    assert probabilities.problem.endswith(
        "sex='True' weeks=38.25 children=2: size_probability_small before=0.75 size_probability_small now=0.25 "
        "size_probability_large before=0.25 size_probability_large now=0.75"
    )
    tree = changes_tree(night, report, ChangeBudget(**budget))
    assert (sorted(tree["flips"]), sorted(tree["movers"])) == (["size", "tip"], ["place", "size_probabilities"])
    assert tree["changed_fraction"] == 2 / 24


def test_a_person_accepts_a_check_and_no_other(tmp_path, warehouse):
    night = first_and_second(tmp_path, warehouse, lambda p: {"weight": 9.0})
    ranges = {"low": {"range": {"weight": [None, 8]}}, "high": {"range": {"weight": [None, 8.5]}}}
    accepting = dataclasses.replace(night, accepted={"low": "new scales", "changes.weight": "new scales", "there": "x"})
    report = check(warehouse, accepting, {"max_fraction": 0.5}, there={"not_null": "weight"}, **ranges)
    assert [refusal.name for refusal in report.refusals] == ["high"]
    assert report.accepted == {
        "low": "new scales",
        "changes.weight": "new scales",
    }  # what did not fail needed no reason
    assert changes_tree(night, report, ChangeBudget())["verdict"] == "refused"


def test_other_keys_are_not_compared_and_it_says_so(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    columns = (*COLUMNS[:2], COLUMNS[-1])
    axes = {name: AXES[name] for name in ("sex", "weeks")}
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", axes=axes, columns=columns)
    why = "no row has the same key: the key is sex string, weeks float, it was children int, sex string, weeks float"
    report = check(warehouse, night)
    assert (report.changes, report.checks, report.note) == (None, (), why)


def test_a_limit_that_other_keys_leave_unjudged_refuses_until_a_person_accepts_it(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    columns = (*COLUMNS[:2], COLUMNS[-1])
    axes = {name: AXES[name] for name in ("sex", "weeks")}
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", axes=axes, columns=columns)
    budget = {"max_fraction": 0.05, "max_new": 0.1, "max_gone": 1.0}
    why = "no row has the same key: the key is sex string, weeks float, it was children int, sex string, weeks float"
    assert [refusal.problem for refusal in check(warehouse, night, budget).refusals] == [
        f"check 'changes.weight' failed: weight cannot be compared, and at most 5 % may change: {why}",
        f"check 'new_rows' failed: what is new cannot be compared, and at most 10 % may change: {why}",
    ]
    reasons = {"changes.weight": "fewer axes", "new_rows": "fewer axes"}
    report = check(warehouse, dataclasses.replace(night, accepted=reasons), budget)
    assert (report.refusals, report.accepted) == ((), reasons)


def test_a_limit_is_not_kept_by_an_axis_that_moved_away(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    axes = AXES | {"weeks": {"weeks": [50.0, 51.0]}}
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", axes=axes)
    assert check(warehouse, night).refusals == ()
    (refusal,) = check(warehouse, night, {"max_fraction": 0.02}).refusals
    assert refusal.problem == (
        "check 'changes.weight' failed: weight cannot be compared, and at most 2 % may change: no row has the same key"
    )


@pytest.mark.parametrize("now", [TableColumn("weight", "int", "output"), TableColumn("mass", "float", "output")])
def test_an_output_of_another_type_or_name_does_not_keep_its_limit(tmp_path, warehouse, now):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    values = with_values(lambda position: {now.name: position})
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", columns=(*COLUMNS[:-1], now), rewrite=values)
    outputs = DeclaredOutputs({now.name: now.type}, {})
    assert check(warehouse, night, outputs=outputs).refusals == ()
    (refusal,) = check(warehouse, night, {"max_fraction": 0.02}, outputs).refusals
    assert (refusal.name, refusal.finding) == (
        f"changes.{now.name}",
        f"{now.name} cannot be compared, and at most 2 % may change: the night before has it in another type, or under "
        "another name",
    )


def test_only_outputs_that_both_nights_have_are_compared(tmp_path, warehouse):
    publish(warehouse, make_night(tmp_path / "1", run_id="r1"))
    columns = (*COLUMNS, TableColumn("grams", "int", "output"))
    night = make_night(tmp_path / "2", run_date=SECOND, run_id="r2", columns=columns)
    outputs = DeclaredOutputs({"weight": "float", "grams": "int"}, {})
    report = check(warehouse, night, {"max_fraction": 0.0}, outputs)
    assert [c.name for c in report.checks] == ["changes.weight"]
    assert report.note == "not compared, for they are new or of another type: grams"


def test_the_file_of_changes_is_json_and_prints(tmp_path, warehouse, capsys):
    night = first_and_second(tmp_path, warehouse, lambda p: {"weight": 9.0 if p < 6 else 7.0})
    budget = ChangeBudget(max_fraction=0.1, threshold=0.5)
    report = check(warehouse, night, budget.model_dump(), slices=[("sex",)], low={"range": {"weight": [0, 100]}})
    tree = json.loads(json.dumps(changes_tree(night, report, budget), allow_nan=False))
    assert (tree["job"], tree["against"], tree["verdict"]) == ("natality", "2024-01-01", "refused")
    assert tree["against_night"]["table"] == "natality_20240101_r1"
    output = tree["overall"]["outputs"]["weight"]
    assert output == {
        "changed": 6,
        "fraction": 0.25,
        "mean": 0.5,
        "mean_absolute": 0.5,
        "quantiles": {"0": 0.0, "1": 0.0, "5": 0.0, "25": 0.0, "50": 0.0, "75": 0.0, "95": 2.0, "99": 2.0, "100": 2.0},
        "columns": ["weight"],
        "threshold": 0.5,
        "is_class": False,
        "limit": 0.1,
    }
    assert {part["slice"]["sex"]: part["outputs"]["weight"]["changed"] for part in tree["slices"]} == {
        "True": 6,
        "False": 0,
        None: 0,
    }
    assert len(tree["movers"]["weight"]) == 6
    assert tree["movers"]["weight"][0] == {
        "change": 2.0,
        "key": points(AXES)[0],
        "before": {"weight": 7.0},
        "now": {"weight": 9.0},
    }
    assert tree["refusals"][0].startswith(
        "check 'changes.weight' failed: weight moved by more than 0.5 in 6 of 24 rows"
    )
    print_changes(tree)
    printed = capsys.readouterr().out
    assert "natality, night of 2024-01-02 (run r2), against 2024-01-01: refused" in printed
    assert "24 rows in both nights, 0 new, 0 gone" in printed
    assert "changes.weight  FAILED  weight moved by more than 0.5 in 6 of 24 rows (25 %, at most 10 %)" in printed
    assert "low             passed  weight is in [0, 100] in 24 rows" in printed
    assert "sex=True" in printed
    assert "1 row in" not in printed
    assert "7 -> 9" in printed
    print_changes(tree | {"quantile_rows": 3})
    assert "1 %, median and 99 % are of 1 row in 3; all else is of every row" in capsys.readouterr().out


def test_every_check_has_a_name_to_accept():
    assert check_names(contracts(low={"not_null": "weight"}), ["weight"]) == [
        "schema",
        "low",
        "changes.weight",
        "new_rows",
        "gone_rows",
    ]
