"""Puts rows that come in no promised order into one that depends on their content alone.

Rows are dealt into hands by a hash of their values and sorted within each; so the same rows give the same batches,
however many streams brought them and whichever came first. Rows that were sorted by something come out mixed.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import coders  # noqa: F401 - registers how batches travel
from transforms.examples.readers.rows import BATCH_ROWS

HAND_ROWS = 1 << 18
"""Rows of a hand, about: one worker sorts a hand in memory."""
MAX_HANDS = 1 << 12

_HASH = "$hash"  # BigQuery lets no column be called so
_MISSING = np.uint64(0x9E3779B97F4A7C15)


def count_hands(rows: int) -> int:
    """Into how many hands about `rows` rows are dealt."""
    return min(max(-(-rows // HAND_ROWS), 1), MAX_HANDS)


def hash_rows(batch: pa.RecordBatch) -> np.ndarray:
    """Hashes each row's values, `[num_rows]` uint64: the same in every process, on every platform."""
    hashes = np.zeros(batch.num_rows, np.uint64)
    for column in batch.columns:
        hashes = _mix(hashes * np.uint64(31) + _hash_column(column))
    return hashes


def deal_rows(batch: pa.RecordBatch, hands: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Deals a batch's rows: `(hand, rows)` for each hand that gets some."""
    hand_of = (hash_rows(batch) >> np.uint64(32)) * np.uint64(hands) >> np.uint64(32)
    hand_of = hand_of.astype(np.uint16)  # of which numpy's stable sort is a radix sort
    order = np.argsort(hand_of, kind="stable")
    dealt = batch.take(pa.array(order))
    numbers, starts = np.unique(hand_of[order], return_index=True)
    for number, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
        yield int(number), dealt.slice(start, stop - start)


def sort_by_content(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Joins batches and sorts their rows by hash; rows that share one, by their values."""
    rows = pa.concat_batches(list(batches))
    keyed = rows.append_column(_HASH, pa.array(hash_rows(rows)))
    order = pc.sort_indices(keyed, [(name, "ascending") for name in (_HASH, *rows.schema.names)])
    return rows.take(order)


def batch_stem(part: int, number: int) -> str:
    """Name of a part's batch that sorts as the two numbers do."""
    return f"{part:05d}-{number:05d}"


@dataclasses.dataclass
class PutInContentOrder(beam.PTransform):
    """Turns batches of any size into `(stem, batch)` pairs: 65,536 rows each, or fewer if it is a hand's last.

    The same rows in other batches, or in another order, give the same pairs. Stems are `HHHHH-BBBBB`, the hand and the
    batch's number in it.

    Attributes:
        rows: how many there are, about. It decides the hands, so it is part of what the pairs depend on.
    """

    rows: int

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"rows must not be negative: {self.rows!r}")

    def expand(self, batches: beam.PCollection) -> beam.PCollection[tuple[str, pa.RecordBatch]]:
        """Deals the rows and sorts each hand."""
        dealt = tuple[int, pa.RecordBatch]  # without the hint Beam would pickle the batches
        return (
            batches
            | "DealRows" >> beam.FlatMap(deal_rows, count_hands(self.rows)).with_output_types(dealt)
            | "GatherHands" >> beam.GroupByKey()
            | "SortHands" >> beam.FlatMapTuple(_sorted_batches)
        )


def _sorted_batches(hand: int, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    rows = sort_by_content(batches)
    for number, start in enumerate(range(0, rows.num_rows, BATCH_ROWS)):
        yield batch_stem(hand, number), rows.slice(start, BATCH_ROWS)


def _hash_column(column: pa.Array) -> np.ndarray:
    if pa.types.is_string(column.type):
        encoded = pc.dictionary_encode(column)
        texts = np.array([_hash_text(text) for text in encoded.dictionary.to_pylist()] or [0], np.uint64)
        hashes = texts[pc.fill_null(encoded.indices, 0).to_numpy()]
    else:
        hashes = _mix(pc.fill_null(column, 0).to_numpy().view(np.uint64))
    return np.where(pc.is_null(column).to_numpy(zero_copy_only=False), _MISSING, hashes)


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads each number over 64 bits: splitmix64's finalizer (https://prng.di.unimi.it/splitmix64.c)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
