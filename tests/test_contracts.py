"""Contracts: what breaks each, counted over the whole table in both warehouses, with the worst rows by key."""

import hypothesis
import hypothesis.strategies as st
import pydantic
import pytest
from conftest import NATALITY
from nights import AXES, COLUMNS, make_night, points
from tables import WAREHOUSES, open_tables
from test_changes import CLASSES, class_values, with_values

from beam_jobs.warehouses.duckdb import checks as duckdb_checks
from configs.contracts import Contract
from configs.errors import JobError
from configs.loading import load_job, parse_job
from transforms.scoring.shards import TableColumn

_CONTRACT = pydantic.TypeAdapter(Contract)


@pytest.fixture(params=WAREHOUSES)
def warehouse(request, tmp_path):
    return open_tables(request, tmp_path)


def contracts(**trees):
    return {name: _CONTRACT.validate_python(tree) for name, tree in trees.items()}


def judge(warehouse, night, **trees):
    """Each contract's counts and its worst rows: the key in the columns' order, then what was found."""
    warehouse.load(night)
    return {
        found.contract: (
            found.judged,
            found.broken,
            [(*row.key.values(), *row.found.values()) for row in found.worst],
        )
        for found in warehouse.check_contracts(night, contracts(**trees))
    }


def test_rows_beyond_a_range(tmp_path, warehouse):
    """Weights are the positions, so the key says which rows they are."""
    night = make_night(tmp_path, rewrite=with_values(lambda position: {"weight": float(position)}))
    every = [(*point.values(), float(position)) for position, point in enumerate(points(AXES))]
    found = judge(
        warehouse,
        night,
        inside={"range": {"weight": [0, 23]}},
        high={"range": {"weight": [1, 20]}},
        floor={"range": {"weight": [2, None]}},
        ceiling={"range": {"weight": [None, 22.5]}},
        boys={"range": {"weight": [None, 3]}, "where": "sex = 'True' -- the first eight"},
        nobody={"range": {"weight": [None, 3]}, "where": "sex = 'Unknown'"},
        missing={"range": {"weight": [None, 18]}, "where": "sex IS NULL"},
        there={"not_null": "weight"},
    )
    assert found == {
        "inside": (24, 0, []),
        "high": (
            24,
            4,
            [every[23], every[22], every[0]],
        ),  # 0 is as far out as 21, whose sex is missing, and missing ones come last
        "floor": (24, 2, [every[0], every[1]]),
        "ceiling": (24, 1, [every[23]]),
        "boys": (8, 4, [every[7], every[6], every[5]]),
        "nobody": (0, 0, []),
        "missing": (8, 5, [every[23], every[22], every[21]]),
        "there": (24, 0, []),
    }


def test_a_bound_means_what_the_table_can_hold(tmp_path, warehouse):
    """0.1 in float32 is more than 0.1: it is on the bound all the same."""
    night = make_night(tmp_path, rewrite=with_values(lambda position: {"weight": 0.1 if position else 0.2}))
    found = judge(
        warehouse,
        night,
        low={"range": {"weight": [None, 0.1]}},
        listed={"allowed_values": {"weight": [0.1, 0.2]}},
        other={"allowed_values": {"weight": [0.1, 3]}},
    )
    assert {name: counts[:2] for name, counts in found.items()} == {"low": (24, 1), "listed": (24, 0), "other": (24, 1)}


def test_a_null_is_found(tmp_path, warehouse):
    night = make_night(tmp_path, rewrite=with_values(lambda position: {"weight": None} if position == 5 else {}))
    found = judge(warehouse, night, there={"not_null": ["weight"]}, range={"range": {"weight": [-1, 1000]}})
    assert found == {"there": (24, 1, [(*points(AXES)[5].values(), None)]), "range": (24, 0, [])}


def test_classes_probabilities_and_arrays(tmp_path, warehouse):
    def values(position):
        if position == 2:
            return class_values(0.75) | {"size_probability_large": 0.75}
        if position == 4:
            return class_values(0.75, tip=7, place=(0.5, 9.0)) | {"size": "huge's"}
        return class_values(0.75, place=(0.5, 0.5))

    night = make_night(tmp_path, columns=CLASSES, rewrite=with_values(values))
    probabilities = ["size_probability_small", "size_probability_large"]
    found = judge(
        warehouse,
        night,
        words={"allowed_values": {"size": ["small", "large"]}},
        both={"allowed_values": {"size": ["small", "huge's"], "tip": [0, 1]}},
        sums={"sums_to_one": probabilities},
        loose={"sums_to_one": probabilities, "tolerance": 0.5},
        array={"sums_to_one": "place", "where": "tip = 0 AND children = 1"},
        places={"range": {"place": [0.5, 1]}},
    )
    every = [tuple(point.values()) for point in points(AXES)]
    assert found["words"] == (24, 1, [(*every[4], "huge's")])
    assert found["both"] == (24, 1, [(*every[4], 7)])  # of the second output
    assert found["sums"] == (24, 1, [(*every[2], 1.5)])
    assert found["loose"][:2] == (24, 0)
    assert found["array"] == (11, 1, [(*every[2], 0.0)])
    assert found["places"] == (24, 2, [(*every[4], [0.5, 9.0]), (*every[2], [0.0, 0.0])])


def test_a_prediction_that_falls_where_it_should_grow(tmp_path, warehouse):
    """Weeks are listed in no order, and one is missing: the order is that of the numbers."""
    axes = AXES | {"weeks": {"weeks": [38.5, None, 38.0, 40.0, 38.25]}}
    by_week = {38.0: 1.0, 38.25: 4.0, 38.5: 3.5, 40.0: 3.0, None: -9.0}
    columns = COLUMNS
    every = points(axes)

    def weight(position):
        point = every[position]
        falls = point["sex"] == "True" and point["children"] == 2
        return {"weight": by_week[point["weeks"]] if falls else (point["weeks"] or -9.0)}

    night = make_night(tmp_path, axes=axes, columns=columns, rewrite=with_values(weight))
    grows = {"weight": "increasing", "in": "weeks"}
    found = judge(
        warehouse,
        night,
        grows={"monotone": grows},
        nearly={"monotone": grows | {"eps": 0.5}},
        falls={"monotone": {"weight": "decreasing", "in": "weeks"}, "where": "sex = 'True' AND children = 2"},
        late={"monotone": grows, "where": "weeks > 38.25"},
        early={"monotone": grows | {"strict": True}, "where": "weeks < 38.5"},
    )
    assert found["grows"] == (24, 2, [("True", 40.0, 2, 3.0, 4.0), ("True", 38.5, 2, 3.5, 4.0)])
    assert found["nearly"] == (24, 1, [("True", 40.0, 2, 3.0, 4.0)])  # a slow slide is told by its whole length
    assert found["falls"] == (
        4,
        3,
        [("True", 38.25, 2, 4.0, 1.0), ("True", 38.5, 2, 3.5, 1.0), ("True", 40.0, 2, 3.0, 1.0)],
    )
    assert found["late"] == (12, 1, [("True", 40.0, 2, 3.0, 3.5)])
    assert found["early"] == (12, 0, [])


def test_what_float32_rounds_is_within_eps(tmp_path, warehouse):
    """From 1.1 down to 1.0 it is 0.10000002 in float32."""
    by_week = {38.0: 1.1, 38.25: 1.0, 38.5: 0.999, None: 0.0}
    every = points(AXES)
    night = make_night(tmp_path, rewrite=with_values(lambda p: {"weight": by_week[every[p]["weeks"]]}))
    found = judge(
        warehouse,
        night,
        within={"monotone": {"weight": "increasing", "in": "weeks", "eps": 0.1}, "where": "weeks < 38.5"},
        over={"monotone": {"weight": "increasing", "in": "weeks", "eps": 0.1}},
    )
    assert {name: counts[:2] for name, counts in found.items()} == {"within": (12, 0), "over": (18, 6)}


def test_the_same_answer_twice_is_not_strictly_more(tmp_path, warehouse):
    night = make_night(tmp_path, rewrite=with_values(lambda position: {"weight": 1.0}))
    grows = {"weight": "increasing", "in": "weeks"}
    found = judge(warehouse, night, grows={"monotone": grows}, strictly={"monotone": grows | {"strict": True}})
    assert {name: counts[:2] for name, counts in found.items()} == {"grows": (18, 0), "strictly": (18, 12)}


def test_intervals_lie_in_the_order_of_their_bounds(tmp_path, warehouse):
    columns = (
        TableColumn("age_from", "float", "key"),
        TableColumn("age_to", "float", "key"),
        TableColumn("age_is_missing", "bool", "key"),
        TableColumn("sex", "string", "key"),
        COLUMNS[-1],
    )
    age = {
        "age_from": [None, 20.0, 30.0, None],
        "age_to": [20.0, 30.0, None, None],
        "age_is_missing": [False, False, False, True],
    }
    weights = [
        3.0,
        1.0,
        2.0,
        2.0,
        4.0,
        1.5,
        0.0,
        9.0,
    ]  # for boys 3, 2, 4, 0 (missing); for girls 1, 2, 1.5, 9 (missing)
    night = make_night(
        tmp_path,
        axes={"age": age, "sex": {"sex": ["True", "False"]}},
        columns=columns,
        intervals_of=("age",),
        rewrite=with_values(lambda position: {"weight": weights[position]}),
    )
    found = judge(warehouse, night, grows={"monotone": {"weight": "increasing", "in": "age"}})
    assert found["grows"] == (6, 2, [(20.0, 30.0, False, "True", 2.0, 3.0), (30.0, None, False, "False", 1.5, 2.0)])


@hypothesis.given(
    weeks=st.permutations([None, 30.0, 31.5, 33.0, 36.0]),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), min_size=15, max_size=15),
    eps=st.sampled_from([0.0, 0.5, 1.0]),
    direction=st.sampled_from(["increasing", "decreasing"]),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_a_row_breaks_a_direction_against_any_earlier_one(tmp_path_factory, weeks, weights, eps, direction):
    axes = {"weeks": {"weeks": weeks}, "children": {"children": [1, 2, None]}}
    columns = (COLUMNS[1], COLUMNS[2], COLUMNS[-1])
    values = with_values(lambda position: {"weight": weights[position]})
    night = make_night(tmp_path_factory.mktemp("law"), axes=axes, columns=columns, rewrite=values)
    shards = [f"{night.run_dir}/predictions/{shard.name}" for shard in night.manifest.shards]
    asked = contracts(law={"monotone": {"weight": direction, "in": "weeks", "eps": eps}})
    (found,) = duckdb_checks.check_contracts(night, shards, asked)
    rows = [(*point.values(), weight) for point, weight in zip(points(axes), weights, strict=True)]
    sign = 1 if direction == "increasing" else -1
    broken = [
        row
        for row in rows
        if row[0] is not None
        and any(
            other[0] is not None and other[0] < row[0] and other[1] == row[1] and sign * (other[2] - row[2]) > eps
            for other in rows
        )
    ]
    assert (found.judged, found.broken) == (12, len(broken))
    assert {(*worst.key.values(), worst.found["weight"]) for worst in found.worst} <= set(broken)
    assert len(found.worst) == min(len(broken), 3)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"range": {"wait": [0, 1]}}, r"publish.contracts.it: 'wait': expected an output \(weight, size\)"),
        ({"range": {"size": [0, 1]}}, "publish.contracts.it: 'size': expected numbers, the output is string"),
        ({"allowed_values": {"size": [1]}}, "publish.contracts.it: 'size': expected values of its type, string"),
        ({"monotone": {"weight": "increasing", "in": "age"}}, "publish.contracts.it: 'age': expected a key column"),
        ({"range": {"weight": [0, 1]}, "where": "sexx = 1"}, "a contract's condition does not work: .*sexx"),
        ({"range": {"weight": [0, 1]}, "where": "contians(sex)"}, "a contract's condition does not work: .*contians"),
        (
            {"not_null": "weight", "where": "regexp_matches(sex, '(')"},
            "a contract's condition does not work: .*missing",
        ),
    ],
    ids=["no output", "text", "values", "no key", "column", "function", "regular expression"],
)
def test_a_contract_that_does_not_fit_the_table(tmp_path, tree, message):
    """What the job file cannot tell of a model that somebody else made."""
    night = make_night(tmp_path, columns=(*COLUMNS, TableColumn("size", "string", "output")))
    shards = [f"{night.run_dir}/predictions/{shard.name}" for shard in night.manifest.shards]
    with pytest.raises(JobError, match=message):
        duckdb_checks.check_contracts(night, shards, contracts(it=tree))


JOB_PROBLEMS = {
    "contracts.a={range: {weight_pund: [1, 2]}}": "publish.contracts.a.range.weight_pund: 'weight_pund': expected an output; did you mean 'weight_pounds'?",
    "contracts.a={range: {weight_pounds: [2, 1]}}": "publish.contracts.a.range: expected the lowest value of weight_pounds first",
    "contracts.a={range: {weight_pounds: [null, null]}}": "publish.contracts.a.range: expected a lowest or a highest value of weight_pounds",
    "contracts.a={monotone: {weight_pounds: up, in: gestation_weeks}}": "publish.contracts.a.monotone.weight_pounds: 'up': input should be 'increasing' or",
    "contracts.a={monotone: {in: gestation_weeks}}": "publish.contracts.a.monotone: expected an output with increasing or decreasing",
    "contracts.a={monotone: {weight_pounds: increasing}}": "publish.contracts.a.monotone.in: required and not there",
    "contracts.a={monotone: {weight_pounds: increasing, in: plurality}}": "publish.contracts.a.monotone.in: 'plurality': expected a feature of numbers",
    "contracts.a={monotone: {weight_pounds: increasing, in: gestation}}": "publish.contracts.a.monotone.in: 'gestation': expected a feature; did you mean 'gestation_weeks'?",
    "contracts.a={monotone: {weight_pounds: increasing, in: mother_age, strict: true, eps: 1}}": "publish.contracts.a.monotone: expected strict or eps",
    "contracts.a={allowed_values: {weight_pounds: [heavy]}}": "publish.contracts.a.allowed_values.weight_pounds: 'heavy': expected values of the output's type, float",
    "contracts.a={allowed_values: {weight_pounds: [null]}}": "publish.contracts.a.allowed_values.weight_pounds.0: None: expected a string or a number",
    "contracts.a={sums_to_one: weight}": "publish.contracts.a.sums_to_one: 'weight': expected an output; did you mean 'weight_pounds'?",
    "contracts.a={not_null: x, range: {x: [0, 1]}}": "publish.contracts.a: expected a contract with exactly one of range, not_null, monotone",
    "contracts.schema={not_null: weight_pounds}": "publish.contracts.schema: 'schema': expected another name",
    "contracts.a={not_null: weight_pounds, wher: x}": "publish.contracts.a.wher: unknown setting (value 'x'); did you mean 'where'?",
    "changes={treshold: 1}": "publish.changes.treshold: unknown setting (value 1); did you mean 'threshold'?",
    "changes={max_fraction: 2}": "publish.changes.max_fraction: 2: input should be less than or equal to 1",
    "changes.outputs={weight: {threshold: 1}}": "publish.changes.outputs.weight: 'weight': expected an output; did you mean 'weight_pounds'?",
}


@pytest.mark.parametrize("setting", JOB_PROBLEMS)
def test_a_mistake_in_the_job_file_is_one_line(setting):
    with pytest.raises(JobError) as error:
        load_job(NATALITY, [f"publish.{setting}"])
    (problem,) = error.value.problems
    assert JOB_PROBLEMS[setting] in problem


def test_contracts_survive_the_resolved_job_file():
    settings = [
        "publish.contracts.a={range: {weight_pounds: [1, null]}, where: is_male = 'True'}",
        "publish.contracts.b={monotone: {weight_pounds: increasing, in: gestation_weeks, eps: 0.01}}",
        "publish.contracts.c={allowed_values: {weight_pounds: [1, 2.5]}}",
        "publish.changes={threshold: 0.5, max_fraction: 0.02, outputs: {weight_pounds: {max_fraction: 0.1}}}",
    ]
    job = load_job(NATALITY, settings)
    assert parse_job(job.model_dump(mode="json")) == job
    assert job.publish.changes.limit_of("weight_pounds", is_class=False) == 0.1
    assert job.publish.changes.threshold_of("weight_pounds") == 0.5
    assert job.digest() == load_job(NATALITY).digest()


def test_flips_have_a_limit_of_their_own():
    job = load_job(NATALITY, ["publish.changes={max_fraction: 0.02, max_flips: 0.01}"])
    limits = [job.publish.changes.limit_of("weight_pounds", is_class) for is_class in (False, True)]
    assert limits == [0.02, 0.01]
