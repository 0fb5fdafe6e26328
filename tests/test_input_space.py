"""The input space: every point exactly once, at the position that its indices say."""

import itertools
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import ForetableError
from transforms.space.axes import Axis
from transforms.space.input_space import InputSpace, load_axes, save_axes

CITY = Axis("city", "values", pa.table({"city": ["Bern", None, "Chur"]}))
AREA = Axis("area", "range", pa.table({"area": pa.array([0.5, 1.0, None], pa.float64())}))
PLACE = Axis("place", "distinct", pa.table({"x": pa.array([1, 1], pa.int64()), "y": pa.array(["a", "b"])}))


@st.composite
def spaces(draw):
    axes = []
    for index in range(draw(st.integers(1, 4))):
        kinds = st.sampled_from([st.text(max_size=3), st.integers(-5, 5), st.floats(allow_nan=False, width=32)])
        kind = draw(kinds)
        rows = draw(st.lists(st.one_of(st.none(), kind), min_size=1, max_size=6, unique=True))
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        value_type = next((types[type(value)] for value in rows if value is not None), pa.string())
        axes.append(Axis(f"axis{index}", "values", pa.table({f"axis{index}": pa.array(rows, value_type)})))
    return InputSpace(tuple(axes))


@hypothesis.given(spaces())
def test_every_point_exactly_once_in_row_major_order(space):
    batch = space.columns(np.arange(space.cardinality))
    axes = [axis.table.column(0).to_pylist() for axis in space.axes]
    assert list(zip(*batch.to_pydict().values(), strict=True)) == list(itertools.product(*axes))
    assert batch.schema == pa.schema([axis.table.schema.field(0) for axis in space.axes])
    encoded = pa.Table.from_batches([space.columns_of(space.points_between(0, space.cardinality), dictionary=True)])
    assert encoded.to_pydict() == batch.to_pydict()


@hypothesis.given(spaces(), st.data())
def test_points_of_a_range_are_those_at_its_positions(space, data):
    start = data.draw(st.integers(0, space.cardinality))
    stop = data.draw(st.integers(start, space.cardinality))
    between, at = space.points_between(start, stop), space.points(np.arange(start, stop))
    assert between.positions.tolist() == at.positions.tolist() == list(range(start, stop))
    assert [index.tolist() for index in between.indices] == [index.tolist() for index in at.indices]
    assert {index.dtype for index in (*between.indices, *at.indices)} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    "shape", [(3, 40_000, 1), (90_000, 2, 1), (7, 11, 5003), (5, 1, 20_001), (1, 1, 123_457)], ids=str
)
@pytest.mark.parametrize("start", [0, 1, 4099, 12_345])
def test_points_of_a_long_range(shape, start):
    space = InputSpace(
        tuple(Axis(f"a{index}", "values", pa.table({f"a{index}": np.arange(rows)})) for index, rows in enumerate(shape))
    )
    stop = min(start + 65_536, space.cardinality)
    between, at = space.points_between(start, stop), space.points(np.arange(start, stop))
    assert all(np.array_equal(*pair) for pair in zip(between.indices, at.indices, strict=True))


@hypothesis.given(spaces(), st.data())
def test_a_point_is_found_at_its_position(space, data):
    position = data.draw(st.integers(0, space.cardinality - 1))
    (key,) = space.columns(np.array([position])).to_pylist()
    found = space.position(key)
    # Zero and its negative are two rows of an axis here only: `build_axis` makes one of them.
    assert found == position or space.columns(np.array([found])).to_pylist() == [key]
    assert [int(index[0]) for index in space.indices(np.array([position]))] == list(
        np.unravel_index(position, space.shape)
    )


def test_columns_have_the_order_asked_for():
    space = InputSpace((PLACE, CITY), ("city", "x", "y"))
    assert space.columns(np.array([5, 1, 0])).to_pydict() == {
        "city": ["Chur", None, "Bern"],
        "x": [1, 1, 1],
        "y": ["b", "a", "a"],
    }
    assert space.position({"city": None, "x": 1, "y": "b"}) == 4
    assert space.position({"city": "Genf", "x": 1, "y": "b"}) is None
    with pytest.raises(ValueError, match="expected each of the axes' columns"):
        InputSpace((PLACE, CITY), ("city", "x"))


def test_keys_name_the_rows():
    rows = Axis("rows", "rows", pa.table({"id": ["a", "b"], "x": pa.array([1, 1], pa.int64())}), ("id",))
    space = InputSpace((rows,))
    assert space.key_names == ("id",)
    assert space.position({"id": "b"}) == 1


def test_cardinality_is_exact_beyond_64_bits():
    axis = pa.table({"a": pa.array(range(10**5))})
    axes = [Axis(f"a{index}", "values", axis.rename_columns([f"a{index}"])) for index in range(5)]
    assert InputSpace(tuple(axes)).cardinality == 10**25


def test_axes_survive_the_disk(tmp_path):
    rows = Axis("my rows/1", "rows", pa.table({"id": ["a", "b"], "n": pa.array([1, None], pa.int64())}), ("id",))
    space = InputSpace((CITY, rows, AREA), exclude="n = 1")
    (tmp_path / "axes").mkdir()
    pq.write_table(CITY.table, tmp_path / "axes" / "07-stale.parquet")
    paths = save_axes(space, str(tmp_path / "axes"))
    assert [os.path.basename(path) for path in paths] == ["00-city.parquet", "01-my_rows_1.parquet", "02-area.parquet"]
    assert sorted(os.listdir(tmp_path / "axes")) == [os.path.basename(path) for path in paths]
    loaded = load_axes(str(tmp_path / "axes"))
    assert loaded == space.axes
    assert InputSpace(loaded, exclude="n = 1").digest() == space.digest()


def test_axes_come_back_in_order_beyond_a_hundred(tmp_path):
    axes = [Axis(f"a{index}", "values", pa.table({f"a{index}": [1]})) for index in range(101)]
    save_axes(InputSpace(tuple(axes)), str(tmp_path))
    assert [axis.name for axis in load_axes(str(tmp_path))] == [axis.name for axis in axes]


def test_missing_or_broken_axes_are_named(tmp_path):
    with pytest.raises(ForetableError, match="no axes here; run foretable plan"):
        load_axes(str(tmp_path))
    (tmp_path / "00-city.parquet").write_bytes(b"PAR1")
    with pytest.raises(ForetableError, match=r"00-city\.parquet: cannot read the axis"):
        load_axes(str(tmp_path))


def test_digest_is_of_the_values_whatever_their_layout():
    whole = InputSpace((Axis("city", "values", pa.table({"city": ["Bern", None, "Chur"]})),)).digest()
    chunked = pa.table({"city": pa.chunked_array([["x", "Bern"], [None, "Chur"]])}).slice(1)
    assert InputSpace((Axis("city", "distinct", chunked),)).digest() == whole


@pytest.mark.parametrize(
    "other",
    [
        InputSpace((AREA, CITY)),
        InputSpace((CITY, AREA), ("area", "city")),
        InputSpace((CITY, AREA), exclude="area = 1"),
        InputSpace((CITY, Axis("area", "range", pa.table({"area": pa.array([0.5, None, 1.0])})))),
        InputSpace((CITY, Axis("area", "range", pa.table({"area": pa.array([0.5, 1.0, 0.0])})))),
        InputSpace((Axis("city", "values", pa.table({"city": ["Ber", "n", "Chur"]})), AREA)),
    ],
    ids=["axis order", "column order", "exclude", "row order", "null is not zero", "where words end"],
)
def test_digest_differs_where_the_table_would(other):
    assert other.digest() != InputSpace((CITY, AREA)).digest()
