"""Through which tensors a transform graph sees a number: a proof, by a walk over it, of where outputs cannot change.

From the number on, the walk follows tensors that only rise or only fall with it. Where such a tensor enters an
operation that is not known to keep that order, it is a step tensor of all that follows. An output whose rows come from
the same rows of the features is a function of its step tensors and of other features. So it is constant between two
numbers at which each step tensor has the same value, whatever the other features are: what is monotone and has equal
ends is constant. Of any other output it is only known whether a path leads to it from the number at all.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from configs.features import ColumnType
from transforms.graphs.inlining import FlatGraph, Operation, inline_functions
from transforms.graphs.row_operations import MAKES_HANDLES, READS_STATE
from transforms.graphs.step_rules import COMPARES, COUNTS, EQUATES, FOLDS, NUMBERS, SELECTS, keeps_order
from transforms.space.bisection import from_order


class StepTensors:
    """The step tensors of a graph's outputs for one feature.

    Attributes:
        references: to all of them, sorted.
        of_output: those of each output; none where the feature's value does not matter, if the output is by row.
        reached: outputs that depend on the feature in any way, by row or not; all of them, where the graph keeps state.
    """

    def __init__(
        self,
        of_output: Mapping[str, frozenset[str]],
        reached: frozenset[str],
        graph: FlatGraph,
        placeholder: str,
        column_type: ColumnType,
    ):
        """Makes the function that gives them.

        Args:
            graph: that they are in.
            placeholder: of the feature there.
            column_type: of the feature.
        """
        self.of_output = dict(of_output)
        self.reached = reached
        self.references = tuple(sorted(frozenset[str]().union(*of_output.values())))
        self._function = graph.function(self.references, placeholder)
        self._column_type = column_type

    def values(self, positions: np.ndarray) -> list[np.ndarray]:
        """The bytes of each, uint8 `[num_positions, num_bytes]`, at these positions in the order of numbers."""
        found = self._function(from_order(positions, self._column_type))
        return [np.ascontiguousarray(tensor.numpy()).reshape(len(positions), -1).view(np.uint8) for tensor in found]


def find_step_tensors(signature: Any, feature: str, column_type: ColumnType, low: int, high: int) -> StepTensors:
    """The step tensors of every output of a signature for a numeric feature.

    Args:
        signature: a concrete function of a loaded SavedModel, whose inputs are rank 1, `[batch_size]`.
        low: position of the lowest number that the feature is, in the order of numbers.
        high: position of the highest.
    """
    import tensorflow as tf

    specs = tf.nest.flatten(signature.structured_input_signature)
    placeholders = [tensor.op.name for tensor in signature.inputs]
    operations, references = inline_functions(
        signature.graph.as_graph_def(), [tensor.name for tensor in signature.outputs]
    )
    placeholder = placeholders[[spec.name for spec in specs].index(feature)]
    captured = dict(zip(placeholders[len(specs) :], signature.captured_inputs, strict=True))
    graph = FlatGraph(operations, captured)
    ends = from_order(np.array([low, high]), column_type)
    flows = _Walk(graph, placeholder, captured, ends).follow(operations.values())
    sources = {
        name: reference.rpartition(":")[0]
        for name, reference in zip(sorted(signature.structured_outputs), references, strict=True)
    }
    of_output = {name: flows[source].frontier for name, source in sources.items()}
    behind = _behind(operations.values(), placeholder)
    keeps_state = _keeps_state(signature.graph, operations.values())
    reached = frozenset(name for name, source in sources.items() if keeps_state or source in behind)
    return StepTensors(of_output, reached, graph, placeholder, column_type)


def _behind(operations: Iterable[Operation], placeholder: str) -> set[str]:
    """Names of the operations to which a path leads from the placeholder, however little of its values they take."""
    behind = {placeholder}
    for operation in operations:
        if any(reference.rpartition(":")[0] in behind for reference in operation.inputs):
            behind.add(operation.name)
    return behind


def _keeps_state(graph: Any, operations: Iterable[Operation]) -> bool:
    """Whether one operation may hand something to another that is not its input, as by a variable."""
    kinds = {operation.kind for operation in operations} - READS_STATE - MAKES_HANDLES
    return any(graph.op_def_for_type(kind).is_stateful for kind in kinds)


@dataclasses.dataclass(frozen=True)
class _Flow:
    """What an operation's output has to do with the feature.

    Attributes:
        steps: references to the step tensors that it is a function of, beside other features.
        is_monotone: it depends on this feature alone, and each of its values only rises or only falls with it.
        has_others: it depends on other features.
        is_constant: it depends on no feature, nor on the number of rows, and can be computed beforehand.
        known: what all values of a truth value are, where that is known.
    """

    reference: str
    steps: frozenset[str] = frozenset()
    is_monotone: bool = False
    has_others: bool = False
    is_constant: bool = False
    known: bool | None = None

    @property
    def frontier(self) -> frozenset[str]:
        """The step tensors of what is made of it in a way that need not keep order."""
        return frozenset([self.reference]) if self.is_monotone else self.steps

    @property
    def is_free(self) -> bool:
        """Whether no feature's value matters to it."""
        return not (self.frontier or self.has_others)


class _Walk:
    """Follows one feature through a flat graph."""

    def __init__(self, graph: FlatGraph, placeholder: str, captured: Collection[str], ends: np.ndarray):
        self._graph = graph
        self._placeholder = placeholder
        self._captured = captured
        self._ends = ends

    def follow(self, operations: Iterable[Operation]) -> dict[str, _Flow]:
        """The flow of each operation, by its name."""
        flows: dict[str, _Flow] = {}
        for operation in list(operations):
            inputs = [flows[reference.rpartition(":")[0]] for reference in operation.inputs]
            flows[operation.name] = self._flow(operation, inputs)
        return flows

    def _flow(self, operation: Operation, inputs: Sequence[_Flow]) -> _Flow:
        kind = operation.kind
        if kind == "Placeholder":
            return self._placeholder_flow(operation.name)
        if kind == "IsNan" and inputs[0].is_monotone:  # nothing that is followed is NaN
            return self._known(operation, False)
        if kind == "LogicalNot" and inputs[0].known is not None:
            return self._known(operation, not inputs[0].known)
        if kind in SELECTS and inputs[0].known is not None and not any(flow.has_others for flow in inputs):
            chosen = inputs[1 if inputs[0].known else 2]
            return dataclasses.replace(chosen, reference=f"{operation.name}:0", is_constant=False)
        if kind in COUNTS and not any(flow.has_others for flow in inputs):
            return _Flow(f"{operation.name}:0")
        moving = [index for index, flow in enumerate(inputs) if flow.is_monotone]
        if len(moving) == 1 and all(flow.is_free for flow in inputs if not flow.is_monotone):
            followed = self._followed(operation, inputs, moving[0])
            if followed is not None:
                return followed
        return _Flow(
            f"{operation.name}:0",
            steps=frozenset[str]().union(*(flow.frontier for flow in inputs)),
            has_others=any(flow.has_others for flow in inputs),
            is_constant=kind in FOLDS and all(flow.is_constant for flow in inputs),
        )

    def _placeholder_flow(self, name: str) -> _Flow:
        if name == self._placeholder:
            return _Flow(f"{name}:0", is_monotone=True)
        return _Flow(f"{name}:0", is_constant=name in self._captured, has_others=name not in self._captured)

    def _followed(self, operation: Operation, inputs: Sequence[_Flow], at: int) -> _Flow | None:
        """The flow of an operation on one monotone tensor, if it keeps order or compares; else None."""
        if operation.kind in EQUATES and operation.number_type in NUMBERS:
            return self._equates(operation, is_certain=self._beside_constants(inputs, at))
        others = [functools.partial(self._constant, flow) for index, flow in enumerate(inputs) if index != at]
        if not keeps_order(operation, at, others, functools.partial(self._at_ends, inputs[at].reference)):
            return None
        reference = f"{operation.name}:0"
        is_truth = operation.kind in COMPARES and self._beside_constants(inputs, at)
        known = self._always(reference) if is_truth else None
        return _Flow(reference, is_monotone=True) if known is None else self._known(operation, known)

    def _equates(self, operation: Operation, is_certain: bool) -> _Flow:
        """Equality is no monotone function, but one of two."""
        at_least = self._graph.add("GreaterEqual", operation, operation.inputs)
        above = self._graph.add("Greater", operation, operation.inputs)
        if is_certain and (self._always(at_least) is False or self._always(above) is True):
            return self._known(operation, operation.kind == "NotEqual")
        return _Flow(f"{operation.name}:0", steps=frozenset([at_least, above]))

    def _beside_constants(self, inputs: Sequence[_Flow], at: int) -> bool:
        """Whether the other inputs are the same in any batch: what is so in a batch of two is so in all."""
        return all(flow.is_constant for index, flow in enumerate(inputs) if index != at)

    def _known(self, operation: Operation, value: bool) -> _Flow:
        return _Flow(f"{operation.name}:0", known=value)

    def _always(self, reference: str) -> bool | None:
        """What a monotone truth value is at both ends, and so between them; None if it is not one value."""
        values = self._at_ends(reference)
        return bool(values.flat[0]) if values.size and (values == values.flat[0]).all() else None

    def _at_ends(self, reference: str) -> np.ndarray:
        values: np.ndarray = self._graph.function([reference], self._placeholder)(self._ends)[0].numpy()
        return values

    def _constant(self, flow: _Flow) -> np.ndarray | None:
        return self._at_ends(flow.reference) if flow.is_constant else None
