"""A signature's graph with the functions that it calls in their place: one list of operations, to follow or to run."""

import dataclasses
import graphlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transforms.graphs.dependencies import CALLS


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a flat graph.

    Attributes:
        inputs: references to tensors, `name:index`; an operation that only has to run before is none.
        node: its definition where it comes from, for its kind and attributes.
    """

    name: str
    inputs: tuple[str, ...]
    node: Any

    @property
    def kind(self) -> str:
        """The operation's type."""
        return str(self.node.op)

    @property
    def number_type(self) -> int | None:
        """The type, of TensorFlow's `DataType`, of the values that it works on, if it is on values of one type."""
        return self.node.attr["T"].type if "T" in self.node.attr else None  # to ask for an attribute would add it


def inline_functions(graph: Any, references: Sequence[str]) -> tuple[dict[str, Operation], list[str]]:
    """The operations of a GraphDef, each after its inputs, and these tensors of the graph as references to them.

    Raises:
        ValueError: a function is not in the graph's library, or the graph goes in circles.
    """
    inliner = _Inliner(graph)
    return inliner.operations, inliner.body(graph.node, {}, references, "")


class _Inliner:
    def __init__(self, graph: Any):
        self._library = {function.signature.name: function for function in graph.library.function}
        self._calls = 0
        self.operations: dict[str, Operation] = {}

    def body(
        self, nodes: Iterable[Any], arguments: Mapping[str, str], references: Sequence[str], prefix: str
    ) -> list[str]:
        """Adds the operations of a function's body; returns what `references` of the body are in the flat graph."""
        by_name = {node.name: node for node in nodes}
        given: dict[str, list[str]] = {name: [reference] for name, reference in arguments.items()}

        def resolve(reference: str) -> str:
            name, *rest = reference.split(":")
            index = int(rest[-1]) if rest else 0
            return given[name][index] if name in given else f"{prefix}{name}:{index}"

        for name in _in_order(by_name, arguments):
            node = by_name[name]
            inputs = [resolve(reference) for reference in node.input if not reference.startswith("^")]
            if node.op in CALLS:
                given[name] = self._call(node.attr["f"].func.name, inputs)
            elif node.op == "IdentityN":
                given[name] = inputs
            else:
                self.operations[f"{prefix}{name}"] = Operation(f"{prefix}{name}", tuple(inputs), node)
        return [resolve(reference) for reference in references]

    def _call(self, name: str, inputs: Sequence[str]) -> list[str]:
        if name not in self._library:
            raise ValueError(f"no function {name!r} in the graph's library")
        function = self._library[name]
        names = [argument.name for argument in function.signature.input_arg]
        returned = [function.ret[argument.name] for argument in function.signature.output_arg]
        self._calls += 1
        return self.body(function.node_def, dict(zip(names, inputs, strict=True)), returned, f"call_{self._calls}_of/")


def _in_order(nodes: Mapping[str, Any], arguments: Mapping[str, str]) -> Iterable[str]:
    before = {
        name: {head for reference in node.input if (head := reference.removeprefix("^").split(":")[0]) not in arguments}
        for name, node in nodes.items()
    }
    return graphlib.TopologicalSorter(before).static_order()


class FlatGraph:
    """Runs parts of a flat graph, each operation with the kernel that runs it in the signature.

    What the signature captures travels into the part as it does into the signature, as an argument: as a constant,
    TensorFlow would fold it into what it computes, and might round otherwise.
    """

    def __init__(self, operations: Mapping[str, Operation], captured: Mapping[str, Any]):
        """Takes what `inline_functions` gave.

        Args:
            captured: the signature's captured tensors, by the name of their placeholders.
        """
        self._operations = dict(operations)
        self._captured = dict(captured)

    def add(self, kind: str, like: Operation, inputs: Sequence[str]) -> str:
        """Adds an operation on the type of number that another one is on; returns a reference to its output."""
        name = f"{like.name}_{kind}"
        node = type(like.node)(name=name, op=kind)
        node.attr["T"].CopyFrom(like.node.attr["T"])
        self._operations[name] = Operation(name, tuple(inputs), node)
        return f"{name}:0"

    def function(self, references: Sequence[str], placeholder: str) -> Any:
        """A function of the value of one placeholder, `[batch_size]`, that gives these tensors.

        They may depend on no other placeholder, but on what is captured.
        """
        import tensorflow as tf

        graph, placeholders = self._part(references)
        captured = {name: self._captured[name] for name in placeholders if name != placeholder}

        def compute(values: Any, captured: dict[str, Any]) -> list[Any]:
            given = {name: (values if name == placeholder else captured[name]) for name in placeholders}
            found: list[Any] = tf.graph_util.import_graph_def(
                graph, input_map={f"{name}:0": value for name, value in given.items()}, return_elements=list(references)
            )
            return found

        value_type = tf.DType(self._operations[placeholder].node.attr["dtype"].type)
        traced = tf.function(compute, autograph=False).get_concrete_function(
            tf.TensorSpec([None], value_type, "values"), captured
        )
        return lambda values: traced(tf.constant(values, value_type), captured)

    def _part(self, references: Sequence[str]) -> tuple[Any, list[str]]:
        """The operations that lead to these tensors, as a GraphDef, and the placeholders among them."""
        import tensorflow as tf

        graph, placeholders = tf.compat.v1.GraphDef(), []
        wanted, seen = [reference.rpartition(":")[0] for reference in references], set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            operation = self._operations[name]
            wanted += [reference.rpartition(":")[0] for reference in operation.inputs]
            if operation.kind == "Placeholder":
                placeholders.append(name)
            node = graph.node.add()
            node.CopyFrom(operation.node)
            node.name = name
            node.input[:] = operation.inputs
            node.device = ""
            for attribute in [key for key in node.attr if key.startswith("_")]:
                del node.attr[attribute]  # hints, such as shapes and neighbours, of the graph that it comes from
        return graph, sorted(placeholders)
