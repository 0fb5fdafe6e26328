"""What a pipeline hands back: one element as a JSON file, because a remote runner gives nothing else back."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from transforms.files import create_atomically


@dataclasses.dataclass
class WriteJson(beam.PTransform):
    """Writes the elements of a bounded collection as one JSON list, in the order of their text; gives the path.

    Guarantees: the file appears as a whole. Dataclasses become mappings. A collection without elements makes no file.
    """

    path: str

    def expand(self, elements: beam.PCollection) -> beam.PCollection[str]:
        """Wires the steps."""
        return (
            elements
            # By one key: combining globally makes a side input of it, which takes a local runner five times as long.
            | "Key" >> beam.Map(lambda element: ("all", element)).with_output_types(tuple[str, Any])
            | "Gather" >> beam.GroupByKey()
            | "WriteList" >> beam.Map(_write_group, self.path).with_output_types(str)
        )


def _write_group(group: tuple[str, Iterable[Any]], path: str) -> str:
    return write_json_list(list(group[1]), path)


def write_json_list(elements: list[Any], path: str) -> str:
    """Writes the elements as one JSON list, in the order of their text; returns `path`."""
    texts = sorted(json.dumps(_plain(element), ensure_ascii=False, allow_nan=False) for element in elements)
    with create_atomically(path) as file:
        file.write(f"[{','.join(texts)}]".encode())
    return path


def _plain(element: Any) -> Any:
    return (
        dataclasses.asdict(element) if dataclasses.is_dataclass(element) and not isinstance(element, type) else element
    )
