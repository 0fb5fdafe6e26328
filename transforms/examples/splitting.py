"""Splits rows into train and eval by a hash of chosen columns: the same row falls on the same side every night.

The hash is BLAKE2b of the values' text, written out below: it depends on no process, platform or library version.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def eval_mask(batch: pa.RecordBatch, by: tuple[str, ...], fraction: float) -> pa.BooleanArray:
    """Which rows fall into the eval split.

    Args:
        batch: rows of examples.
        by: columns that decide; rows that agree on their text fall on the same side.
        fraction: of the hash space that is the eval split. A column of few distinct values cannot be split finely: the
            share of rows is near the fraction only if there are many values.

    Returns:
        `[num_rows]`, true for the eval split.
    """
    columns = [pc.dictionary_encode(batch.column(name), null_encoding="encode") for name in by]
    codes = np.stack([column.indices.to_numpy() for column in columns], axis=1)
    combinations, inverse = np.unique(codes, axis=0, return_inverse=True)
    texts = [[_text(value) for value in column.dictionary.to_pylist()] for column in columns]
    is_eval = [
        _position([column_texts[code] for column_texts, code in zip(texts, combination, strict=True)]) < fraction
        for combination in combinations
    ]
    return pa.array(np.array(is_eval, bool)[inverse.reshape(-1)], pa.bool_())


def _position(texts: list[bytes | None]) -> float:
    """Where a combination of values falls in [0, 1): the first 53 bits of a hash, which a float holds exactly."""
    hashed = hashlib.blake2b(digest_size=8)
    for text in texts:
        # The length before each text tells ("ab", "c") from ("a", "bc"), and a missing value from an empty one.
        hashed.update(b"-" if text is None else b"%d:%b" % (len(text), text))
    return (int.from_bytes(hashed.digest(), "big") >> 11) / 2**53


def _text(value: object) -> bytes | None:
    """A value's text: of a float, the shortest decimal that reads back as the same number."""
    return None if value is None else str(value).encode()
