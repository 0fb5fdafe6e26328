"""A team's own functions, as a job file names them."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    pair = tf.stack([inputs["mother_age"] / 10.0, tf.cast(inputs["siblings"], tf.float32)], axis=1)
    return {
        "ages": pair,
        "mother_age_centered": inputs["mother_age"] - tft.mean(inputs["mother_age"]),
        "plurality_id": tft.compute_and_apply_vocabulary(
            inputs["plurality"], default_value=-1, vocab_filename="plurality"
        ),
        "is_male_id": tft.compute_and_apply_vocabulary(
            inputs["is_male"], num_oov_buckets=1, vocab_filename="is_male_vocabulary"
        ),
    }


def sparse_preprocessing_fn(inputs):
    return {"words": tf.sparse.from_dense(tf.expand_dims(inputs["mother_age"], -1))}


def label_preprocessing_fn(inputs):
    return {"weight_pounds": inputs["mother_age"]}


def build_model(transform_output, task):
    age, plurality, output = _age_plus_hundred_for_twins(transform_output)
    model = keras.Model({"mother_age_centered": age, "plurality_id": plurality}, output)
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.0))  # its own settings are kept: it learns nothing
    return model


def build_model_of_a_list(transform_output, task):
    age, plurality, output = _age_plus_hundred_for_twins(transform_output)
    model = keras.Model([plurality, age], output)
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.0))
    return model


def build_model_of_unknown_input(transform_output, task):
    age = keras.Input((1,), name="age")
    return keras.Model(age, keras.layers.Dense(1)(age))


def _age_plus_hundred_for_twins(transform_output):
    age = keras.Input((), name="mother_age_centered")
    plurality = keras.Input((), name="plurality_id", dtype="int64")
    words = [b"unseen", *transform_output.vocabulary_by_name("plurality")]
    hundreds = keras.layers.Embedding(len(words), 1, trainable=False)
    extra = hundreds(plurality + 1)
    hundreds.set_weights([np.array([[100.0 if word == b"Twins(2)" else 0.0] for word in words], np.float32)])
    return age, plurality, keras.layers.Add()([keras.layers.Reshape((1,))(age), extra])


class TwoWeights(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs["ages"])


def build_subclassed_model(transform_output, task):
    return TwoWeights()


def build_nothing(transform_output, task):
    return None
