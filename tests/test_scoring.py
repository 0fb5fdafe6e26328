"""Scoring: what the serving signature says, bit for bit, and no number that is not one."""

import os

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from house_model import FEATURES, OUTPUTS, PRICE, TYPES, save_house_model

from configs.errors import ForetableError, RefusedError
from configs.outputs import Output
from transforms.columns import MISSING_INT, arrow_schema
from transforms.scoring.serving import ServingScorer, check_features, check_predictions, load_model, predict
from transforms.space.axes import Axis
from transforms.space.exclusion import Exclusion
from transforms.space.input_space import InputSpace

CITY = Axis("city", "values", pa.table({"city": ["Bern", "Chur", "unseen", None]}))
AREA = Axis("area", "range", pa.table({"area": pa.array([20.0, 33.3, 120.5, None], pa.float64())}))
ROOMS = Axis("rooms", "range", pa.table({"rooms": pa.array([1, 2, 7, None], pa.int64())}))
SPACE = InputSpace((CITY, AREA, ROOMS))
RAW = {  # of SPACE, in the graph's terms
    "city": [b"Bern", b"Chur", b"unseen", b""],
    "area": np.array([20.0, 33.3, 120.5, np.nan], np.float32),
    "rooms": np.array([1, 2, 7, MISSING_INT]),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_house_model(str(tmp_path_factory.mktemp("models") / "house"))


def serve(model_dir, positions):
    """The serving signature, called directly on the rows that the axes' product has at these positions."""
    city, area, rooms = np.unravel_index(positions, (4, 4, 4))
    signature = tf.saved_model.load(model_dir).signatures["serving_default"]
    return signature(
        city=tf.constant([RAW["city"][index] for index in city]),
        area=tf.constant(RAW["area"][area]),
        rooms=tf.constant(RAW["rooms"][rooms]),
    )


@pytest.mark.parametrize(
    "positions", [np.arange(64), np.array([5]), np.array([63, 0, 17, 17])], ids=["all", "one", "some"]
)
def test_scorer_says_what_serving_says(model_dir, positions):
    expected = serve(model_dir, positions)
    found = ServingScorer(model_dir, TYPES, OUTPUTS, SPACE).score(SPACE.points(positions))
    assert {name: values.tobytes() for name, values in found.items() if values.dtype != object} == {
        name: values.numpy().tobytes() for name, values in expected.items() if values.dtype != tf.string
    }
    assert found["grade"].tolist() == expected["grade"].numpy().tolist()
    assert found["shares"].shape == (len(positions), 2)


def test_predict_takes_rows_with_null_for_missing(model_dir):
    model = load_model(model_dir)
    assert load_model(os.path.relpath(model_dir)) is model
    batch = SPACE.columns(np.arange(64))
    found, expected = predict(model, batch, TYPES), serve(model_dir, np.arange(64))
    assert found["price"].tobytes() == expected["price"].numpy().tobytes()
    assert set(found) == {"price", "flat", "grade", "shares"}
    transformed = predict(model, batch.append_column("weight", pa.array([1] * 64)), TYPES, "transform")
    assert transformed["city_id"].tolist() == [index for index in (1, 2, 3, 1) for _ in range(16)]
    assert len(predict(model, arrow_schema(TYPES).empty_table(), TYPES)["price"]) == 0


def test_a_model_that_is_replaced_is_loaded_again(tmp_path):
    path = save_house_model(str(tmp_path / "model"))
    first = load_model(path)
    save_house_model(path, seed=1)
    assert load_model(path) is not first


def test_says_what_is_wrong_with_a_model(model_dir, tmp_path):
    def scorer(features=TYPES, outputs=OUTPUTS):
        return ServingScorer(model_dir, features, outputs, SPACE)

    with pytest.raises(ForetableError, match=r"the model takes area, city, rooms; the job's features are area, city$"):
        scorer({"city": "string", "area": "float"})
    with pytest.raises(ForetableError, match="rooms is int64 in the model, expected float"):
        scorer(TYPES | {"rooms": "float"})
    with pytest.raises(ForetableError, match="no output 'cost', only flat, grade, price, shares"):
        scorer(outputs=[Output(name="cost", type="float", columns=("cost",))])
    with pytest.raises(ForetableError, match="price is float32 in the model, expected int"):
        scorer(outputs=[Output(name="price", type="int", columns=("price",))])
    with pytest.raises(
        ForetableError, match="no signature 'predict', only predict_transformed, serving_default, transform"
    ):
        predict(load_model(model_dir), SPACE.columns(np.arange(2)), TYPES, "predict")
    with pytest.raises(ForetableError, match=r"no SavedModel here; run foretable train"):
        load_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ForetableError, match="cannot load the SavedModel: ") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_refused_with_its_key(value):
    positions = np.array([4, 9, 11])
    prices = np.array([1, value, value], np.float32)
    with pytest.raises(RefusedError) as caught:
        check_predictions({"price": prices}, [PRICE], SPACE, positions)
    assert str(caught.value) == (
        f"the model's output 'price' is {value} for city='Bern', area=120.5, rooms=2 (2 such rows in this block);"
        " nothing was published"
    )
    shares = np.array([[0.5, 0.5], [0.5, value], [1, 0]], np.float32)
    with pytest.raises(RefusedError, match=rf"'shares' is {value} for city='Bern', area=120.5, rooms=2 \(1 such"):
        check_predictions({"shares": shares}, [OUTPUTS[3]], SPACE, positions)
    check_predictions({"flat": np.array([1, 2, 3])}, [OUTPUTS[1]], SPACE, positions)


def test_a_feature_that_is_no_number_is_found_behind_the_network(tmp_path):
    model = load_model(save_house_model(str(tmp_path / "model"), nan_area=120.5))
    with pytest.raises(
        RefusedError, match=r"'area_scaled' is not a finite number for city='Bern', area=120\.5, rooms=1"
    ):
        check_features(model, TYPES, SPACE, Exclusion(SPACE).mask)
    without = InputSpace(SPACE.axes, exclude="area = 120.5")
    check_features(model, TYPES, without, Exclusion(without).mask)
    assert FEATURES["area"].may_be_missing
