"""The functions that a SavedModel's graph calls, and what they know of its variables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.graph_pb2 import GraphDef

# How the names of operations end that call functions: PartitionedCall, While, StatelessIf, and so on.
_CALLS = ("Call", "While", "If", "Case")


class CalledFunction(NamedTuple):
    """A function that is called.

    Attributes:
      definition: what it is made of.
      variables: its inputs that are variables -> their names in the main graph.
    """

    definition: "FunctionDef"
    variables: Mapping[str, str]


def called_functions(graph: "GraphDef") -> list[CalledFunction]:
    """Every function that is called, however deep; a variable is the same in all calls, as it was captured."""
    definitions = {each.signature.name: each for each in graph.library.function}
    found: dict[str, CalledFunction] = {}
    own = {node.name: node.name for node in graph.node if node.op == "VarHandleOp"}
    calls = [(node, own) for node in graph.node if node.op.endswith(_CALLS)]
    while calls:
        node, variables = calls.pop()
        named = {value.func.name for value in node.attr.values()}
        for name in named & definitions.keys() - found.keys():
            given = [taken for taken in node.input if not taken.startswith("^")]
            arguments = [argument.name for argument in definitions[name].signature.input_arg]
            # What a branch is chosen by stands before what it is given.
            handed = zip(arguments, given[len(given) - len(arguments) :], strict=True)
            bound = {argument: variables[taken] for argument, taken in handed if taken in variables}
            found[name] = CalledFunction(definitions[name], bound)
            inside = definitions[name].node_def
            calls += [(inner, bound) for inner in inside if inner.op.endswith(_CALLS)]
    return list(found.values())
