"""A small model of house prices as a SavedModel, made of plain TensorFlow: every kind of feature and of output, no training.

Raw features: `city` (string), `area` (float), `rooms` (int), each of which may be missing.
"""

import numpy as np
import tensorflow as tf

from configs.features import Feature
from configs.outputs import Output
from transforms.columns import MISSING_INT

FEATURES = {
    "city": Feature(type="string", missing="Bern"),
    "area": Feature(type="float", missing=80.0),
    "rooms": Feature(type="int", missing=3),
}
TYPES = {name: feature.type for name, feature in FEATURES.items()}
PRICE = Output(name="price", type="float", columns=("price",), description="Predicted: price")
OUTPUTS = (
    PRICE,
    Output(name="flat", type="int", columns=("flat",)),
    Output(name="grade", type="string", columns=("grade",)),
    Output(name="shares", type="float", columns=("share_low", "share_high")),
)
CITIES = ["Basel", "Bern", "Chur"]


class HouseModel(tf.Module):
    """Replaces missing values, looks the city up, scales the area, and runs a small network.

    Attributes:
        seed: of the network's weights.
        nan_rooms: number of rooms for which every float prediction is NaN.
        nan_area: area for which the transformed area is NaN, which the network hides.
    """

    def __init__(self, seed: int = 0, nan_rooms: int = -1, nan_area: float = -1.0):
        super().__init__()
        random = np.random.default_rng(seed)
        initializer = tf.lookup.KeyValueTensorInitializer(CITIES, tf.range(len(CITIES), dtype=tf.int64))
        self.table = tf.lookup.StaticHashTable(initializer, len(CITIES))
        self.cities = tf.Variable(random.normal(size=[len(CITIES) + 1, 8]), dtype=tf.float32)
        self.hidden = tf.Variable(random.normal(size=[10, 33]), dtype=tf.float32)
        self.last = tf.Variable(random.normal(size=[33, 1]), dtype=tf.float32)
        self.nan_rooms, self.nan_area = nan_rooms, nan_area

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "city"),
            tf.TensorSpec([None], tf.float32, "area"),
            tf.TensorSpec([None], tf.int64, "rooms"),
        ]
    )
    def transform(self, city, area, rooms):
        area = tf.where(tf.math.is_nan(area), 80.0, area)
        return {
            "city_id": self.table.lookup(tf.where(city == "", "Bern", city)),
            "area_scaled": tf.where(area == self.nan_area, float("nan"), (area - 100.0) / 37.0),
            "rooms_number": tf.cast(tf.where(rooms == MISSING_INT, tf.constant(3, tf.int64), rooms), tf.float32),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "city"),
            tf.TensorSpec([None], tf.float32, "area"),
            tf.TensorSpec([None], tf.int64, "rooms"),
        ]
    )
    def serve(self, city, area, rooms):
        return self.predict(**self.transform(city, area, rooms))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int64, "city_id"),
            tf.TensorSpec([None], tf.float32, "area_scaled"),
            tf.TensorSpec([None], tf.float32, "rooms_number"),
        ]
    )
    def predict(self, city_id, area_scaled, rooms_number):
        number = tf.stack([area_scaled, rooms_number], axis=1)
        inputs = tf.concat([tf.gather(self.cities, city_id), number], axis=1)
        price = tf.squeeze(tf.nn.relu(inputs @ self.hidden) @ self.last, -1)
        price = tf.where(rooms_number == float(self.nan_rooms), float("nan"), price)
        share = tf.sigmoid(price / 10.0)
        return {
            "price": price,
            "flat": tf.cast(price < 5.0, tf.int64),
            "grade": tf.where(price < 0.0, "low", "hoch ü"),
            "shares": tf.stack([1.0 - share, share], axis=1),
        }


def save_house_model(directory: str, **attributes: float) -> str:
    """Writes the SavedModel and returns its folder."""
    model = HouseModel(**attributes)
    signatures = {
        "serving_default": model.serve,
        "transform": model.transform,
        "predict_transformed": model.predict,
    }
    tf.saved_model.save(
        model, directory, signatures={name: f.get_concrete_function() for name, f in signatures.items()}
    )
    return directory
