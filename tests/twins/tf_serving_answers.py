"""Arrays as TensorFlow Serving's REST API prints them; see `twins.tf_serving_json`."""

import base64
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from twins.tf_serving_json import InvalidError


def decimals(values: np.ndarray) -> list[str]:
    """Floats as it prints them: six digits where those read back to the same float, else nine, or seventeen."""
    plain = values.tolist()
    texts = [f"{value:.6g}" for value in plain]
    with np.errstate(over="ignore", invalid="ignore"):
        same = np.array(list(map(float, texts)), np.float64).astype(values.dtype) == values
    digits = 9 if values.dtype == np.float32 else 17
    for index in np.flatnonzero(~same & np.isfinite(values)):
        texts[index] = f"{plain[index]:.{digits}g}"
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [special.get(text, text if "." in text or "e" in text else f"{text}.0") for text in texts]


def _texts(name: str, array: np.ndarray) -> list[str]:
    flat = array.reshape(-1)
    if flat.dtype == object:
        if name.endswith("_bytes"):
            return [json.dumps({"b64": base64.b64encode(value).decode()}) for value in flat]
        return [json.dumps(value.decode(errors="surrogateescape"), ensure_ascii=False) for value in flat]
    if flat.dtype.kind == "f":
        return decimals(flat)
    return [json.dumps(value) for value in flat.tolist()]


def _nested(texts: Sequence[str], shape: Sequence[int]) -> str:
    if not shape:
        return texts[0]
    step = math.prod(shape[1:])
    return f"[{', '.join(_nested(texts[at : at + step], shape[1:]) for at in range(0, step * shape[0], step or 1))}]"


def answer(outputs: Mapping[str, np.ndarray], has_rows: bool) -> bytes:
    """The JSON of an answer, bytes that are no UTF-8 and all.

    Raises:
        InvalidError: an output has no dimension of instances, or another number of them.
    """
    outputs = dict(sorted(outputs.items()))
    if not has_rows:
        columns = {name: _nested(_texts(name, array), array.shape) for name, array in outputs.items()}
        return f'{{"outputs": {_named(columns)}}}'.encode(errors="surrogateescape")
    count: int | None = None
    for name, array in outputs.items():
        if not array.shape:
            raise InvalidError(f"Tensor name: {name} has no shape information ")
        if count is not None and len(array) != count:
            raise InvalidError(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    rows = {}
    for name, array in outputs.items():
        texts, step = _texts(name, array), math.prod(array.shape[1:])
        rows[name] = [_nested(texts[row * step : (row + 1) * step], array.shape[1:]) for row in range(count or 0)]
    predictions = ",\n".join(_named({name: row[index] for name, row in rows.items()}) for index in range(count or 0))
    return f'{{"predictions": [{predictions}]}}'.encode(errors="surrogateescape")


def _named(values: Mapping[str, str]) -> str:
    """An object; of a model with one output, the value alone."""
    if len(values) == 1:
        return next(iter(values.values()))
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in values.items())}}}"
