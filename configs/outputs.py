"""The model's outputs, named as columns of the prediction table: the exporter and the engine read the names here."""

import re
from collections.abc import Sequence
from typing import Literal

from configs.base import Node
from configs.features import ColumnType, Label
from configs.modeling import Binary, Regression

OutputType = ColumnType | Literal["string[]", "float[]", "int[]"]
"""Of a column of the prediction table; the last three hold an array in each row."""
TableType = OutputType | Literal["bool"]
"""Of a column of the prediction table; a truth value says whether an interval's feature is missing."""
ARRAY_TYPES: dict[ColumnType, OutputType] = {"string": "string[]", "float": "float[]", "int": "int[]"}


class Output(Node):
    """One output of the serving signature.

    Attributes:
        name: in the signature.
        type: of the table's column or columns.
        columns: of the prediction table: one, or one per class for a `[batch_size, num_classes]` output.
    """

    name: str
    type: OutputType
    columns: tuple[str, ...]
    description: str = ""


def model_outputs(label: Label, task: object, classes: tuple[str, ...] | None = None) -> tuple[Output, ...]:
    """Outputs of a model for this label and task.

    Args:
        classes: of a multiclass task, in the order of their ids.
    """
    name, about = label.name, label.description or label.name
    if isinstance(task, Regression):
        return (Output(name=name, type="float", columns=(name,), description=f"Predicted: {about}"),)
    if isinstance(task, Binary):
        probability = f"{name}_probability"
        return (
            Output(name=probability, type="float", columns=(probability,), description=f"Probability: {about}"),
            Output(
                name=name, type="int", columns=(name,), description=f"1 from probability {task.threshold:g}: {about}"
            ),
        )
    if classes is None:
        raise ValueError("a multiclass task's outputs need its classes")
    columns = class_columns(f"{name}_probability", classes)
    return (
        Output(name=name, type="string", columns=(name,), description=f"Most probable class: {about}"),
        Output(
            name=f"{name}_probabilities",
            type="float",
            columns=columns,
            description=f"Probability of the class: {about}",
        ),
    )


def class_columns(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of an output that has one for each class."""
    return tuple(f"{name}_{_column_word(label_class)}" for label_class in classes)


def _column_word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower() or "empty"
