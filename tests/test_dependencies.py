"""Dependencies: what the walk says, held against what the graph does when it runs."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from transforms.graphs import elementwise
from transforms.graphs.dependencies import Dependency, output_dependencies

SPECS = {"a": tf.float32, "b": tf.float32, "n": tf.int64, "s": tf.string}
VARIABLE = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
TABLE = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["x", "y"], tf.constant([1, 2], tf.int64)), 0)
COUNTER = tf.Variable(0.0)


def signature_of(function):
    """The function of a, b, n and s as a concrete one."""
    specs = [tf.TensorSpec([None], kind, name) for name, kind in SPECS.items()]
    return tf.function(lambda a, b, n, s: {"o": function(a, b, n, s)}).get_concrete_function(*specs)


def dependency_of(function):
    return output_dependencies(signature_of(function))["o"]


@tf.function
def inner(x, y):
    return x + 1.0, tf.cast(y, tf.float32) * x


ALL = Dependency(tuple(SPECS), False, False)


def exact(*features):
    return Dependency(features, True, True)


def inexact(*features):
    return Dependency(features, True, False)


def count_calls(a):
    COUNTER.assign_add(1.0)
    return a


def through_a_named_variable(a):
    def handle():
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="largest")

    def assign():
        tf.raw_ops.AssignVariableOp(resource=handle(), value=tf.reduce_max(a))
        return 1.0

    assigned = tf.cond(a[0] > 0, assign, lambda: 2.0)
    with tf.control_dependencies([assigned]):
        return tf.fill(tf.shape(a), tf.raw_ops.ReadVariableOp(resource=handle(), dtype=tf.float32))


CASES = {
    "z-score": (lambda a, b, n, s: (a - 3.0) / 2.0, exact("a")),
    "two": (lambda a, b, n, s: tf.where(n > 3, a, b), exact("a", "b", "n")),
    "constant": (lambda a, b, n, s: tf.ones_like(a), exact("a")),
    "constant of the size": (lambda a, b, n, s: tf.fill(tf.shape(a), 3.0), exact()),
    "vocabulary": (lambda a, b, n, s: TABLE.lookup(tf.where(s == "", "x", s)), exact("s")),
    "vocabulary with buckets": (lambda a, b, n, s: tf.strings.to_hash_bucket_fast(s, 9) + TABLE.size(), exact("s")),
    "tft buckets": (lambda a, b, n, s: tft.apply_buckets(a, tf.constant([[0.0, 1.0, 2.0]])), exact("a")),
    "cross": (lambda a, b, n, s: tf.strings.join([s, tf.strings.as_string(n)], "x"), exact("n", "s")),
    "logarithm": (lambda a, b, n, s: tf.math.log1p(tf.abs(a)), inexact("a")),
    "zero or its negative": (lambda a, b, n, s: tf.maximum(a, b), inexact("a", "b")),
    "largest integer": (lambda a, b, n, s: tf.maximum(n, 3), exact("n")),
    "first output of a function": (lambda a, b, n, s: inner(a, n)[0], exact("a")),
    "second output of a function": (lambda a, b, n, s: inner(a, n)[1], exact("a", "n")),
    "column": (lambda a, b, n, s: a[:, tf.newaxis], exact("a")),
    "there and back": (lambda a, b, n, s: tf.reshape(tf.reshape(a, [1, -1]), tf.shape(b)) + b, exact("a", "b")),
    "stacked": (lambda a, b, n, s: tf.stack([a, b], axis=1)[:, 1], exact("a", "b")),
    "one-hot": (lambda a, b, n, s: tf.one_hot(n, 5), exact("n")),
    "embedding": (lambda a, b, n, s: tf.gather(VARIABLE, n % 3), exact("n")),
    "network": (lambda a, b, n, s: tf.nn.relu(tf.stack([a, b, a], 1) @ VARIABLE), inexact("a", "b")),
    "softmax": (lambda a, b, n, s: tf.nn.softmax(tf.stack([a, b], 1)), inexact("a", "b")),
    "sum of a row": (lambda a, b, n, s: tf.reduce_sum(tf.stack([a, b], 1), axis=1), inexact("a", "b")),
    "largest": (lambda a, b, n, s: a - tf.reduce_max(a), ALL),
    "mean": (lambda a, b, n, s: a / tf.reduce_mean(a), ALL),
    "batch size": (lambda a, b, n, s: a / tf.cast(tf.size(a), tf.float32), ALL),
    "position": (lambda a, b, n, s: a + tf.range(tf.cast(tf.size(a), tf.float32)), ALL),
    "first row": (lambda a, b, n, s: a - a[0], ALL),
    "last rows": (lambda a, b, n, s: tf.concat([a[1:], a[:1]], 0), ALL),
    "sorted": (lambda a, b, n, s: tf.sort(a), ALL),
    "reversed": (lambda a, b, n, s: a[::-1], ALL),
    "running sum": (lambda a, b, n, s: tf.cumsum(a), ALL),
    "unique": (lambda a, b, n, s: tf.unique(n)[1], ALL),
    "every pair": (lambda a, b, n, s: tf.reduce_sum(a[:, None] * b[None, :], 1), ALL),
    "product over the batch": (lambda a, b, n, s: tf.linalg.matvec(a[:, None], tf.linalg.matvec(a[None, :], b)), ALL),
    "rows as columns": (lambda a, b, n, s: tf.reshape(tf.stack([a, b], 0), [-1, 2])[:, 0], ALL),
    "softmax over the batch": (lambda a, b, n, s: tf.nn.softmax(a), ALL),
    "random": (lambda a, b, n, s: a + tf.random.uniform(tf.shape(a)), ALL),
    "random for every row": (lambda a, b, n, s: a + tf.random.stateless_uniform(tf.shape(a), [1, 2]), ALL),
    "condition": (lambda a, b, n, s: tf.cond(a[0] > 0, lambda: a, lambda: b), ALL),
    "loop": (lambda a, b, n, s: tf.while_loop(lambda x: x[0] < 9, lambda x: (x + 1,), (a,))[0], ALL),
    "mapped": (lambda a, b, n, s: tf.map_fn(lambda x: x + 1, a), ALL),
    "python": (lambda a, b, n, s: tf.ensure_shape(tf.py_function(lambda x: x, [a], tf.float32), [None]), ALL),
    "beside a count of calls": (lambda a, b, n, s: count_calls(a), ALL),
    "through a variable of a branch": (lambda a, b, n, s: through_a_named_variable(a), ALL),
    "as many as are above": (lambda a, b, n, s: tf.fill(tf.shape(a), tf.size(tf.where(a > 0))), ALL),
    "some of the rows": (lambda a, b, n, s: tf.zeros_like(tf.boolean_mask(a, a > 0)), ALL),
    "a vector of as many as there may be rows": (lambda a, b, n, s: a + tf.constant([1.0, 2.0, 3.0]), ALL),
    "transposed": (lambda a, b, n, s: tf.transpose(tf.stack([a, b])), ALL),
    "no batch": (lambda a, b, n, s: tf.constant(1.0), ALL),
}


@pytest.mark.parametrize(("function", "expected"), CASES.values(), ids=CASES)
def test_dependencies(function, expected):
    assert dependency_of(function) == expected


def test_a_loaded_model_says_the_same(tmp_path):
    module = tf.Module()
    module.table, module.variable = TABLE, VARIABLE
    signature = signature_of(lambda a, b, n, s: tf.gather(VARIABLE, TABLE.lookup(s) + 1))
    tf.saved_model.save(module, str(tmp_path), signatures={"transform": signature})
    loaded = tf.saved_model.load(str(tmp_path))
    assert output_dependencies(loaded.signatures["transform"]) == {"o": exact("s")}


STEPS = {
    "add": lambda x, y: x + y,
    "scale": lambda x, y: x * 2.0 - 1.0,
    "floor": lambda x, y: tf.floor(x),
    "either": lambda x, y: tf.where(x > y, x, y * 0.5),
    "column": lambda x, y: tf.squeeze(tf.stack([x, y], 1)[:, :1], [1]),
    "reshape": lambda x, y: tf.reshape(tf.reshape(x, [1, -1, 1]), [-1]),
    "bucket": lambda x, y: tf.cast(tf.raw_ops.Bucketize(input=x, boundaries=[-1.0, 0.5]), tf.float32),
    "text": lambda x, y: tf.cast(tf.strings.to_hash_bucket_fast(tf.strings.as_string(x), 7), tf.float32),
    "gather": lambda x, y: tf.gather(VARIABLE, tf.cast(tf.abs(x), tf.int64) % 3)[:, 1],
    "softplus": lambda x, y: tf.math.softplus(x),
    "product": lambda x, y: (tf.stack([x, y, x], 1) @ VARIABLE)[:, 0],
    "row sum": lambda x, y: tf.reduce_sum(tf.stack([x, y], 1), 1),
    "minus largest": lambda x, y: x - tf.reduce_max(y),
    "reverse": lambda x, y: x[::-1],
    "sort": lambda x, y: tf.sort(x),
    "running": lambda x, y: tf.cumsum(x),
    "size": lambda x, y: x + tf.cast(tf.shape(y)[0], tf.float32),
    "pairs": lambda x, y: tf.reshape(tf.reshape(tf.stack([x, y], 0), [-1, 2]), [2, -1])[0],
}


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=6))
def test_what_is_by_row_comes_from_its_row_and_its_features_alone(steps):
    def program(a, b, n, s):
        values = [a, b, tf.cast(n, tf.float32)]
        for name, left, right in steps:
            values.append(STEPS[name](values[left % len(values)], values[right % len(values)]))
        return values[-1]

    signature = signature_of(program)
    dependency = output_dependencies(signature)["o"]
    random = np.random.default_rng(len(steps))
    rows = 48

    def batch():
        return {
            "a": random.normal(size=rows).astype(np.float32) * 3,
            "b": random.normal(size=rows).astype(np.float32) * 3,
            "n": random.integers(0, 9, rows),
            "s": random.choice([b"x", b"y", b"z"], rows),
        }

    def run(inputs):
        return signature(**{name: tf.constant(values) for name, values in inputs.items()})["o"].numpy()

    one, other, shuffled = batch(), batch(), random.permutation(rows)
    if not dependency.by_row:
        assert set(dependency.features) == set(SPECS)
        return
    kept = {name: values if name in dependency.features else other[name] for name, values in one.items()}
    assert run(kept).tobytes() == run(one).tobytes()  # features that it does not name do not matter
    mixed = {name: np.where(np.arange(rows) < 16, values, other[name]) for name, values in one.items()}
    expected = run(one)
    assert run(mixed)[:16].tobytes() == expected[:16].tobytes()  # nor do other rows
    moved = run({name: values[shuffled] for name, values in one.items()})
    assert moved.tobytes() == expected[shuffled].tobytes()  # nor where a row lies, in a batch of whole vectors
    if dependency.exact:
        for size in (1, 3, 7, 13, 31, 47):
            part = run({name: values[:size] for name, values in one.items()})
            assert part.tobytes() == expected[:size].tobytes()


SPECIAL = [0.0, -0.0, 1.5, -2.5, np.nan, np.inf, -np.inf, 1e-40, 3e38, -1e-30, 2.5000002, 0.1, -7.0, 1e9, 16777217.0]
OPERATIONS = {
    **{name: {"x": "x"} for name in ("Abs", "Neg", "Sqrt", "Square", "Ceil", "Floor", "Rint", "Round")},
    **{name: {"x": "x"} for name in ("IsFinite", "IsInf", "IsNan", "OnesLike", "ZerosLike")},
    **{name: {"x": "x", "y": "y"} for name in ("Add", "AddV2", "Sub", "Mul", "MulNoNan", "Div", "DivNoNan", "RealDiv")},
    **{name: {"x": "x", "y": "y"} for name in ("FloorDiv", "FloorMod", "SquaredDifference")},
    **{name: {"x": "x", "y": "y"} for name in ("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual")},
    "TruncateMod": {"x": "x", "y": "y"},
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exact_operation_gives_a_value_the_same_bits_anywhere(name):
    assert name in elementwise.EXACT
    operation = getattr(tf.raw_ops, name)
    random = np.random.default_rng(0)
    values = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), random.normal(size=799) * 100]).astype(np.float32)
    others = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), random.normal(size=799)]).astype(np.float32)
    columns = {"x": values, "y": others}

    def run(rows):
        arguments = {parameter: tf.constant(columns[column][rows]) for parameter, column in OPERATIONS[name].items()}
        return operation(**arguments).numpy()

    expected = run(np.arange(1024))
    for size in (1, 3, 5, 17):
        parts = [run(np.arange(start, min(start + size, 1024))) for start in range(0, 1024, size)]
        assert np.concatenate(parts).tobytes() == expected.tobytes()
