"""A saved transform graph in one canonical form, so that the same analysis gives the same bytes on any day and machine.

TensorFlow numbers functions and what they capture by a counter of the process, and orders nodes by memory addresses;
tf.Transform writes its temporary folder into the names of lookup tables. None of it means anything to a loader.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2

_COUNTED_NAME = re.compile(r"(?P<base>.*_)(?P<counter>\d+)")


def canonical_saved_model(serialized: bytes, temp_dir: str) -> bytes:
    """The SavedModel with functions renumbered, nodes sorted, and without the name of `temp_dir`.

    Args:
        serialized: content of `saved_model.pb`.
    """
    model = saved_model_pb2.SavedModel.FromString(serialized)
    for meta_graph in model.meta_graphs:
        library = meta_graph.graph_def.library
        names = _renumbered(function.signature.name for function in library.function)
        _rewrite_text(meta_graph, functools.partial(_canonical_text, names, temp_dir.rstrip("/") + "/"))
        for function in library.function:
            _rename_captures(function)
            _sort_by(function.node_def, lambda node: node.name)
        _sort_by(library.function, lambda function: function.signature.name)
    return bytes(model.SerializeToString(deterministic=True))


def _canonical_text(names: Mapping[str, str], folder: str, text: str) -> str:
    return names.get(text, text).replace(folder, "")


def _renumbered(names: Iterable[str]) -> dict[str, str]:
    """New names by old ones: the process's counters replaced by their ranks."""
    matches = [match for name in names if (match := _COUNTED_NAME.fullmatch(name))]
    in_order = sorted(matches, key=lambda match: (int(match["counter"]), match["base"]))
    return {match.string: f"{match['base']}{rank}" for rank, match in enumerate(in_order)}


def _rename_captures(function: Any) -> None:
    """Numbers the function's captured inputs by their order; the declared ones, `inputs_0` and on, keep their names."""
    arguments = function.signature.input_arg
    names = {}
    for position, argument in enumerate(arguments):
        match = _COUNTED_NAME.fullmatch(argument.name)
        if match and int(match["counter"]) >= len(arguments):
            names[argument.name] = f"{match['base']}captured_{position}"
            argument.name = names[argument.name]
    for node in function.node_def:
        node.input[:] = [names.get(name, name) for name in node.input]
    for output, name in list(function.ret.items()):
        function.ret[output] = names.get(name, name)
    for position, attributes in function.arg_attr.items():
        if "_user_specified_name" in attributes.attr and attributes.attr["_user_specified_name"].s.isdigit():
            attributes.attr["_user_specified_name"].s = b"captured_%d" % position


def _sort_by(repeated: Any, key: Callable[[Any], str]) -> None:
    ordered = sorted(repeated, key=key)
    del repeated[:]
    repeated.extend(ordered)


def _rewrite_text(message: Message, rewrite: Callable[[str], str]) -> None:
    """Applies `rewrite` to every string in the message, at any depth, the keys of maps included."""
    for field, value in message.ListFields():
        entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
        if entry is not None:
            _rewrite_map(value, entry, rewrite)
        elif field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                _rewrite_text(child, rewrite)
        elif field.cpp_type == field.CPPTYPE_STRING:
            if field.is_repeated:
                value[:] = [_rewritten(text, rewrite) for text in value]
            else:
                setattr(message, field.name, _rewritten(value, rewrite))


def _rewrite_map(mapping: Any, entry: Any, rewrite: Callable[[str], str]) -> None:
    value_field = entry.fields_by_name["value"]
    holds_messages = value_field.message_type is not None
    entries = []
    for key, value in mapping.items():
        if holds_messages:
            _rewrite_text(value, rewrite)
            entries.append((_rewritten(key, rewrite), type(value).FromString(value.SerializeToString())))
        else:
            entries.append((_rewritten(key, rewrite), _rewritten(value, rewrite)))
    mapping.clear()  # at once: a new key may be another entry's old one
    for key, value in entries:
        if holds_messages:
            mapping[key].CopyFrom(value)
        else:
            mapping[key] = value


def _rewritten(text: Any, rewrite: Callable[[str], str]) -> Any:
    if isinstance(text, str):
        return rewrite(text)
    if isinstance(text, bytes):
        return rewrite(text.decode("latin-1")).encode("latin-1")  # bytes such as tensor contents come back as they were
    return text
