"""Which inputs each output of an exported function depends on, and whether it does so row by row.

A conservative walk over the function's graph and the functions that it calls: nothing is run. tf.Transform's own
`get_transform_input_columns` counts every vocabulary's input in every output, and does not look for what mixes rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from transforms.graphs.graph_values import BATCH, Value
from transforms.graphs.row_operations import READS_STATE, apply_rule, constant_value

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# Those of which nothing hides in a branch but values are StatelessIf, StatelessWhile and StatelessCase.
_STATEFUL_BRANCHES = frozenset({"Case", "If", "While"})


@dataclasses.dataclass(frozen=True)
class Dependency:
    """What one output depends on.

    Attributes:
        features: raw features, sorted.
        by_row: each row of the output comes from the same row of the features alone, whatever else is in the batch. If
            not, `features` are all.
        exact: `by_row`, and a row's bits are the same in any batch, at any position of it.
    """

    features: tuple[str, ...]
    by_row: bool
    exact: bool


class _UnknowableError(Exception):
    """The graph changes state or goes in circles: no output can be told from another."""


def output_dependencies(signature: Any) -> dict[str, Dependency]:
    """What each output of a signature depends on, by the output's name.

    Args:
        signature: a concrete function of a loaded SavedModel, whose inputs are `[batch_size, ...]`.
    """
    import tensorflow as tf

    specs = tf.nest.flatten(signature.structured_input_signature)
    features = frozenset(spec.name for spec in specs)
    mixed = Value(features, is_mixed=True, is_exact=False)
    names = sorted(signature.structured_outputs)
    try:
        outputs = _Walk(signature.graph.as_graph_def(), mixed).outputs(
            _arguments(signature, specs), [tensor.name for tensor in signature.outputs]
        )
    except _UnknowableError:
        outputs = [mixed] * len(names)
    return {name: _dependency(value, mixed) for name, value in zip(names, outputs, strict=True)}


def _dependency(value: Value, mixed: Value) -> Dependency:
    # Rows that lie in another dimension than the first are not what a caller of the signature takes for rows.
    by_row = value.has_rows and value.shape is not None and value.shape[0] == BATCH
    return Dependency(tuple(sorted((value if by_row else mixed).inputs)), by_row, by_row and value.is_exact)


def _arguments(signature: Any, specs: Sequence[Any]) -> dict[str, Value]:
    """What is known of each placeholder: first the features, in the order of their names, then what is captured."""
    captured = signature.captured_inputs
    placeholders = [tensor.op.name for tensor in signature.inputs]
    if len(placeholders) != len(specs) + len(captured) or any(None in _row_shape(spec) for spec in specs):
        raise _UnknowableError
    shapes = {id(variable.handle): tuple(variable.shape) for variable in signature.variables}
    values = [Value(frozenset([spec.name]), (BATCH, *_row_shape(spec))) for spec in specs]
    for tensor in captured:
        if tensor.dtype.name == "resource":
            values.append(Value(shape=shapes.get(id(tensor)), is_handle=True))
        else:
            values.append(constant_value(tensor.numpy()))
    return dict(zip(placeholders, values, strict=True))


def _row_shape(spec: Any) -> tuple[Any, ...]:
    """Dimensions of a row, None where one is not known."""
    return tuple(spec.shape[1:]) if spec.shape.rank else (None,)


class _Walk:
    """Follows values through a graph and the functions of its library."""

    def __init__(self, graph: Any, mixed: Value):
        self._graph = graph
        self._library = {function.signature.name: function for function in graph.library.function}
        self._mixed = mixed

    def outputs(self, arguments: Mapping[str, Value], references: Sequence[str]) -> list[Value]:
        """What is known of these tensors of the graph."""
        return self._body(self._graph.node, arguments, references)

    def _call(self, name: str, values: Sequence[Value]) -> list[Value]:
        function = self._library.get(name)
        if function is None or len(values) != len(function.signature.input_arg):
            raise _UnknowableError
        arguments = {argument.name: value for argument, value in zip(function.signature.input_arg, values, strict=True)}
        references = [function.ret[argument.name] for argument in function.signature.output_arg]
        return self._body(function.node_def, arguments, references)

    def _body(self, nodes: Sequence[Any], arguments: Mapping[str, Value], references: Sequence[str]) -> list[Value]:
        by_name = {node.name: node for node in nodes}
        known: dict[str, list[Value]] = {name: [value] for name, value in arguments.items()}
        # Every node, not only those that lead to an output: one that changes a table may stand beside the way.
        for node in _in_order(by_name, arguments):
            known[node.name] = self._node(node, [_at(known, name) for name in node.input if not name.startswith("^")])
        return [_at(known, reference) for reference in references]

    def _node(self, node: Any, inputs: list[Value]) -> list[Value]:
        if node.op in CALLS:
            return self._call(node.attr["f"].func.name, inputs)
        if node.op == "IdentityN":
            return inputs
        changes_handle = node.op not in READS_STATE and any(value.is_handle for value in inputs)
        if changes_handle or node.op in _STATEFUL_BRANCHES:
            raise _UnknowableError
        return [apply_rule(node, inputs) or self._mixed]


def _at(known: Mapping[str, list[Value]], reference: str) -> Value:
    """The value of `node`, `node:2`, or, in a function, `node:output:2`."""
    name, *rest = reference.split(":")
    values = known[name]
    return values[int(rest[-1])] if len(values) > 1 and rest else values[0]


def _in_order(nodes: Mapping[str, Any], arguments: Mapping[str, Value]) -> list[Any]:
    """The nodes, each after its inputs."""
    ordered: list[Any] = []
    state = dict.fromkeys(arguments, "done")
    for root in nodes:
        stack = [root]
        while stack:
            name = stack[-1]
            if state.get(name) == "done":
                stack.pop()
                continue
            waiting = [
                head
                for head in (reference.removeprefix("^").split(":")[0] for reference in nodes[name].input)
                if state.get(head) != "done"
            ]
            if not waiting:
                state[name] = "done"
                ordered.append(nodes[name])
                stack.pop()
            elif state.get(name) == "open" and any(state.get(head) == "open" for head in waiting):
                raise _UnknowableError
            else:
                state[name] = "open"
                stack += waiting
    return ordered
