"""Buckets axes: every number in exactly one interval, and nothing that the transform graph says changes inside one."""

import itertools
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from configs.errors import JobError, RefusedError
from configs.features import Feature
from configs.space import BucketsAxis
from transforms.columns import MISSING_INT
from transforms.space.bisection import from_order, to_order
from transforms.space.intervals import build_buckets_axis, describe_columns

FEATURES = {
    "age": Feature(type="float", missing=27.0, description="Age in years"),
    "height": Feature(type="float"),
    "siblings": Feature(type="int", missing=0),
    "city": Feature(type="string", missing="Bern"),
}
SPECS = {"age": tf.float32, "height": tf.float32, "siblings": tf.int64, "city": tf.string}
EXAMPLE = {"age": 30.0, "height": 1.75, "siblings": 2, "city": "Chur"}
CITIES = ("Basel", "Bern", "Chur", "")
EVERYWHERE = BucketsAxis(buckets=True)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def transform_model(**outputs):
    """A model whose `transform` gives these outputs, each a function of the raw features with missing values replaced."""

    @tf.function(input_signature=[{name: tf.TensorSpec([None], kind, name) for name, kind in SPECS.items()}])
    def transform(raw):
        age, siblings = raw["age"], raw["siblings"]
        raw = raw | {
            "age": tf.where(tf.math.is_nan(age), 27.0, age),
            "siblings": tf.where(siblings == MISSING_INT, tf.constant(0, tf.int64), siblings),
        }
        return {name: function(raw) for name, function in outputs.items()}

    return types.SimpleNamespace(signatures={"transform": transform.get_concrete_function()})


def transformed(model, **columns):
    """Outputs for these columns, the others as in the example."""
    (rows,) = {len(values) for values in columns.values()}
    given = {name: columns.get(name, [value] * rows) for name, value in EXAMPLE.items()}
    found = model.signatures["transform"](**{name: tf.constant(given[name], kind) for name, kind in SPECS.items()})
    return {name: tensor.numpy() for name, tensor in found.items()}


def bucket(name, edges):
    """As tf.Transform assigns buckets: a search in sorted edges."""
    return lambda raw: tf.reshape(
        tf.raw_ops.UpperBound(
            sorted_inputs=tf.constant([edges], SPECS[name]), values=tf.reshape(raw[name], [1, -1]), out_type=tf.int64
        ),
        tf.shape(raw[name]),
    )


def intervals(model, name="age", node=EVERYWHERE, **changes):
    """Bounds of the axis's intervals, and the rows beside them."""
    axis = build_buckets_axis(name, node, FEATURES | changes, model, EXAMPLE)
    names = [column.name for column in describe_columns(name, (FEATURES | changes)[name])]
    assert axis.table.column_names == names
    assert axis.keys == tuple(names)
    assert (axis.kind, axis.inputs.column_names) == ("buckets", [name])
    return list(zip(*axis.table.to_pydict().values(), strict=True)), axis.inputs[name].to_pylist()


def bounded(low, high):
    return BucketsAxis(buckets=True, range=(low, high))


def above(value):
    return float(from_order(to_order(np.float32([value])) + 1, "float")[0])


def below(value):
    return float(from_order(to_order(np.float32([value])) - 1, "float")[0])


def test_intervals_are_those_between_the_edges_and_missing_is_one_of_its_own():
    model = transform_model(bucket=bucket("age", [20.0, 30.5]))
    rows, values = intervals(model)
    assert rows == [(None, 20.0, False), (20.0, 30.5, False), (30.5, None, False), (None, None, True)]
    assert values == [below(20.0), 20.0, 30.5, None]
    rows, values = intervals(model, node=bounded(12, 30.5))
    assert rows == [(12.0, 20.0, False), (20.0, 30.5, False), (30.5, above(30.5), False), (None, None, True)]
    assert values == [12.0, 20.0, 30.5, None]


def test_a_feature_that_may_not_be_missing_has_two_columns():
    rows, values = intervals(transform_model(bucket=bucket("height", [1.5])), "height")
    assert rows == [(None, 1.5), (1.5, None)]
    assert values == [below(1.5), 1.5]


def test_a_feature_that_nothing_depends_on_is_one_interval():
    model = transform_model(bucket=bucket("age", [20.0]))
    assert intervals(model, "height") == ([(None, None)], [0.0])
    assert intervals(model, "height", bounded(1, 2)) == ([(1.0, above(2))], [1.0])


def test_whole_numbers_have_whole_bounds():
    model = transform_model(bucket=bucket("siblings", [1, 4]))
    rows, values = intervals(model, "siblings")
    assert rows == [(None, 1, False), (1, 4, False), (4, None, False), (None, None, True)]
    assert values == [0, 1, 4, None]
    rows, _ = intervals(model, "siblings", bounded(0, 10))
    assert rows == [(0, 1, False), (1, 4, False), (4, 11, False), (None, None, True)]


def test_a_few_whole_numbers_are_intervals_even_without_buckets():
    model = transform_model(z_score=lambda raw: (tf.cast(raw["siblings"], tf.float32) - 1.5) / 0.7)
    rows, values = intervals(model, "siblings", bounded(0, 3))
    assert rows == [(0, 1, False), (1, 2, False), (2, 3, False), (3, 4, False), (None, None, True)]
    assert values == [0, 1, 2, 3, None]


def test_neighbours_that_no_output_tells_apart_are_one_interval():
    def is_child_or_retired(raw):
        return tf.cast((raw["age"] < 16.0) | (raw["age"] >= 65.0), tf.int64)

    def is_old(raw):
        return tf.cast(tf.logical_or(raw["age"] >= 65.0, raw["age"] >= 70.0), tf.int64)

    rows, _ = intervals(transform_model(a=is_child_or_retired, b=is_old))
    assert [row[:2] for row in rows[:-1]] == [(None, 16.0), (16.0, 65.0), (65.0, None)]


def test_an_edge_that_shows_with_another_value_of_another_feature_is_found():
    """Two buckets that one city's hash takes for one are two for another city."""

    def cross(raw):
        words = tf.strings.join([raw["city"], tf.strings.as_string(bucket("age", [20.0, 30.0, 40.0])(raw))])
        return tf.strings.to_hash_bucket_fast(words, 2)

    rows, values = intervals(model := transform_model(cross=cross))
    assert [row[0] for row in rows] == [None, 20.0, 30.0, 40.0, None]
    seen = {
        city: transformed(model, age=values[:-1], city=[city] * 4)["cross"].tolist() for city in map(str, range(99))
    }
    assert any(a != b for a, b in itertools.pairwise(seen["0"]))
    assert len(set(map(tuple, seen.values()))) > 1


TRANSFORMS = {
    "at least": lambda edges: lambda raw: tf.cast(raw["age"] >= edges[0], tf.int64),
    "above": lambda edges: lambda raw: tf.cast(raw["age"] > edges[0], tf.float32),
    "below": lambda edges: lambda raw: tf.cast(edges[-1] > raw["age"], tf.int64),
    "equal": lambda edges: lambda raw: tf.cast(raw["age"] == edges[0], tf.int64),
    "unequal": lambda edges: lambda raw: tf.where(raw["age"] != edges[-1], "a", "b"),
    "buckets": lambda edges: bucket("age", edges),
    "kernel": lambda edges: lambda raw: tf.raw_ops.Bucketize(input=raw["age"], boundaries=edges),
    "compared": lambda edges: lambda raw: tf.reduce_sum(tf.cast(raw["age"][:, None] >= edges, tf.int64), axis=1),
    "one hot": lambda edges: lambda raw: tf.one_hot(bucket("age", edges)(raw), len(edges) + 1),
    "scaled": lambda edges: lambda raw: tf.cast((raw["age"] - 3.1) / -7.3 >= edges[0], tf.int64),
    "clipped": lambda edges: lambda raw: tf.clip_by_value(tf.floor(raw["age"] / 100.0), -3.0, 4.0),
    "cross": lambda edges: (
        lambda raw: tf.strings.to_hash_bucket_fast(
            tf.strings.join([raw["city"], tf.strings.as_string(bucket("age", edges)(raw))]), 5
        )
    ),
    "embedded": lambda edges: lambda raw: tf.gather(np.arange(99, dtype=np.float32) % 3, bucket("age", edges)(raw)),
    "another's": lambda edges: lambda raw: tf.math.log1p(tf.maximum(raw["height"], 0.0)),
}


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    st.dictionaries(
        st.sampled_from(sorted(TRANSFORMS)),
        st.lists(st.one_of(FLOAT32, st.integers(-100, 100).map(float)), min_size=1, max_size=5, unique=True).map(
            sorted
        ),
        min_size=1,
        max_size=4,
    ),
    st.one_of(st.none(), st.tuples(FLOAT32, FLOAT32).map(sorted)),
    st.lists(FLOAT32, min_size=1, max_size=50),
)
def test_nothing_changes_inside_an_interval_and_something_does_at_each_edge(declared, range_, samples):
    model = transform_model(**{name: TRANSFORMS[name](edges) for name, edges in declared.items()})
    rows, values = intervals(model, node=BucketsAxis(buckets=True, range=range_))
    assert rows[-1] == (None, None, True)
    lows, highs = [row[0] for row in rows[:-1]], [row[1] for row in rows[:-1]]
    assert lows[1:] == highs[:-1]
    assert (lows[0], highs[-1]) == ((None, None) if range_ is None else (range_[0], above(range_[1])))
    asked = [
        *samples,
        *(edge for edge in lows if edge is not None),
        *(below(edge) for edge in highs if edge is not None),
    ]
    asked = [float(np.float32(value)) for value in asked if range_ is None or range_[0] <= value <= range_[1]]
    asked = [value for value in asked if value == 0 or abs(value) >= np.finfo(np.float32).smallest_normal]
    answers = []
    for value in asked:
        (index,) = [
            i
            for i, (a, b) in enumerate(zip(lows, highs, strict=True))
            if (a is None or a <= value) and (b is None or value < b)
        ]
        answers.append(values[index])
    for city in CITIES:
        direct = transformed(model, age=asked, city=[city] * len(asked))
        looked_up = transformed(model, age=answers, city=[city] * len(asked))
        for name in declared:
            np.testing.assert_array_equal(direct[name], looked_up[name], name)
    # An edge is one for some city; enough of them show every edge of a hash of five.
    per_city = [transformed(model, age=values[:-1], city=[f"city {i}"] * (len(values) - 1)) for i in range(20)]
    for index in range(len(lows) - 1):
        # By what is written, because minus zero is another number to whatever hashes or writes it.
        assert any(
            len({repr(np.asarray(found[name][i]).tolist()) for i in (index, index + 1)}) == 2
            for found in per_city
            for name in declared
        )


@pytest.mark.parametrize(
    ("smooth", "name"),
    [
        (lambda raw: (raw["age"] - 27.0) / 6.0, "age"),
        (lambda raw: tf.math.log1p(tf.maximum(raw["age"], 0.0)), "age"),
        (lambda raw: raw["age"] * raw["age"], "age"),
        (lambda raw: tf.math.sin(raw["age"]), "age"),
        (lambda raw: tf.cast(raw["age"] >= raw["height"], tf.int64), "height"),
        (lambda raw: tf.strings.to_hash_bucket_fast(tf.strings.as_string(raw["siblings"]), 9), "siblings"),
        (lambda raw: tf.cast(raw["age"] / 5.0, tf.int64), "age"),
        (lambda raw: tf.cast(raw["siblings"], tf.int32), "siblings"),
    ],
    ids=["z-score", "log", "square", "sine", "two features", "words of numbers", "unsafe cast", "wrapping cast"],
)
def test_refuses_what_is_not_piecewise_constant_and_names_it(smooth, name):
    edges = [1, 20] if name == "siblings" else [20.0, 30.0]
    model = transform_model(age_buckets=bucket(name, edges), age_z_score=smooth)
    with pytest.raises(RefusedError) as caught:
        intervals(model, name)
    assert str(caught.value) == (
        f"input_space.axes.{name}.buckets: the transformed feature 'age_z_score' is not piecewise constant in {name}: it"
        " tells more than 65,536 values apart; take that transform from the feature, or give a step or values in place of"
        " buckets"
    )


def test_a_cast_is_followed_where_all_numbers_fit():
    model = transform_model(decade=lambda raw: tf.cast(raw["age"] / 10.0, tf.int64))
    rows, _ = intervals(model, node=bounded(12, 55))
    assert [row[0] for row in rows[:-1]] == [12.0, 20.0, 30.0, 40.0, 50.0]


LARGEST = tf.Variable(0.0)


def through_a_variable(raw):
    LARGEST.assign(tf.reduce_max(raw["age"]))
    return LARGEST.read_value()


@pytest.mark.parametrize(
    "output",
    [
        lambda raw: tf.argsort(raw["age"]),
        lambda raw: tf.size(tf.where(raw["age"] > 20.0)),
        lambda raw: tf.shape(tf.boolean_mask(raw["age"], raw["age"] > 20.0))[0],
        through_a_variable,
        lambda raw: tf.cast(raw["age"] > tf.cast(tf.size(raw["age"]), tf.float32), tf.float32),
        lambda raw: tf.cast(raw["age"] == tf.cast(tf.size(raw["age"]), tf.float32), tf.float32),
    ],
    ids=["rank", "count", "shape of some", "variable", "above the batch size", "the batch size"],
)
def test_refuses_an_output_of_other_rows(output):
    with pytest.raises(RefusedError, match="'of rows' may depend on other rows than its own"):
        intervals(transform_model(**{"of rows": output}), node=bounded(12, 55))


def test_an_output_of_other_rows_of_another_feature_has_no_edges():
    model = transform_model(rank=lambda raw: tf.argsort(raw["height"]), bucket=bucket("age", [20.0]))
    assert intervals(model, node=bounded(12, 55))[1] == [12.0, 20.0, None]


@pytest.mark.parametrize(
    ("name", "node", "message"),
    [
        ("city", EVERYWHERE, "input_space.axes.city.buckets: expected a feature of numbers, not of text; list values"),
        ("age", bounded(55, 12), "input_space.axes.age.range: [55.0, 12.0]: expected the lower bound first"),
        ("age", bounded(0, 1e39), "expected numbers within float32's range"),
        ("age", bounded(0, float("inf")), "inf: expected a finite number"),
        ("siblings", bounded(0, 2.5), "input_space.axes.siblings.range: 2.5: expected a whole number"),
    ],
)
def test_refuses_a_wrong_declaration(name, node, message):
    with pytest.raises(JobError) as caught:
        intervals(transform_model(bucket=bucket("age", [20.0])), name, node)
    assert message in str(caught.value)


def test_needs_a_transform_signature():
    with pytest.raises(JobError, match="the model has no signature 'transform' to find edges on"):
        intervals(types.SimpleNamespace(signatures={}))


def test_columns_are_described():
    low, high, missing = describe_columns("age", FEATURES["age"])
    assert (low.name, low.type, low.role) == ("age_from", "float", "key")
    assert low.description == "Age in years: from this value on; NULL: from any"
    assert high.description == "Age in years: below this value; NULL: up to any"
    assert (missing.name, missing.arrow_type) == ("age_is_missing", pa.bool_())
    assert [column.arrow_type for column in describe_columns("siblings", FEATURES["siblings"])] == [
        pa.int64(),
        pa.int64(),
        pa.bool_(),
    ]


def test_the_graph_that_tf_transform_makes_is_followed(tmp_path):
    """Declared transforms, through a real analysis: given and quantile edges, of floats and whole numbers, and a cross."""
    import tensorflow_transform as tft
    from run_directories import analyze, natality_job, natality_rows, write_shards

    features = {
        "is_male": {"type": "string"},
        "plurality": {"type": "string", "missing": "Single(1)"},
        "mother_age": {"type": "float", "missing": 27, "transforms": [{"kind": "quantile_buckets", "count": 4}]},
        "siblings": {
            "type": "int",
            "missing": 0,
            "transforms": [{"kind": "buckets", "edges": [0.5, 2]}, {"kind": "quantile_buckets", "count": 3}],
        },
    }
    names = ["plurality", "mother_age_quantile_buckets", "siblings_buckets"]
    job = natality_job(features=features, crosses=[{"kind": "hashed", "features": names, "buckets": 5}])
    write_shards(tmp_path, "train", natality_rows(400))
    layer = tft.TFTransformOutput(analyze(tmp_path, job)).transform_features_layer()
    kinds = {"string": tf.string, "float": tf.float32, "int": tf.int64}
    spec = {name: tf.TensorSpec([None], kinds[node.type], name) for name, node in job.features.items()}
    transform = tf.function(lambda raw: layer(dict(raw)), input_signature=[spec]).get_concrete_function()
    model = types.SimpleNamespace(signatures={"transform": transform})
    example = {"is_male": "True", "plurality": "Twins(2)", "mother_age": 30.0, "siblings": 1}

    ages = build_buckets_axis("mother_age", EVERYWHERE, job.features, model, example)
    assert ages.table.num_rows == 5
    assert ages.table["mother_age_is_missing"].to_pylist() == [False] * 4 + [True]
    siblings = build_buckets_axis("siblings", EVERYWHERE, job.features, model, example).table.to_pydict()
    # The quantiles of 0, 1, 2, 3 lie at 1 and 2, or so, where the given edges are as well.
    assert siblings["siblings_from"][:3] == [None, 1, 2]
    assert siblings["siblings_is_missing"][-1]
    for low, high in zip(
        ages.table["mother_age_from"].to_pylist()[:-1], ages.inputs["mother_age"].to_pylist()[:-1], strict=True
    ):
        assert low is None or low == high


def test_a_bucketized_int_beyond_float32_keeps_its_edge():
    edge = 2**53 + 1
    model = transform_model(at_least=lambda raw: tf.cast(raw["siblings"] >= edge, tf.int64))
    rows, _ = intervals(model, "siblings")
    assert [row[0] for row in rows[:-1]] == [None, edge]
