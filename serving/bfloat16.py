"""The encoder's products in bfloat16, where the processor multiplies it: half the bytes, twice the numbers an instruction."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef

# Linux's names of instructions that multiply bfloat16.
_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})
# The name scope of `towers.encoder.TextEncoder`, which Keras and TensorFlow number.
_ENCODER = re.compile(r"encoder(_\d+)?/")
# Operations whose second input may be a kernel -> their output, as functions call it.
_PRODUCTS = {"Einsum": "output", "MatMul": "product", "BatchMatMulV2": "output"}


def multiplies_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has instructions for it; without them it is slower than float32."""
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:  # not Linux
        return False
    return any(not _INSTRUCTIONS.isdisjoint(line.split()) for line in lines if line.startswith("flags"))


def encoder_to_bfloat16(graph: "GraphDef") -> list[str]:
    """Has a SavedModel's graph hold the encoder's kernels in bfloat16, and multiply by them in it; changes it in place.

    Inputs and results of these products are rounded; all else is computed as before. What reads a kernel in another way
    gets float32, and what is written to one, as when it is restored, is rounded.

    Args:
      graph: whose functions multiply by variables within the name scope of the encoder.

    Returns:
      The kernels' names in the main graph.
    """
    from tensorflow.core.framework.types_pb2 import DT_BFLOAT16

    functions = _functions(graph)
    kernels = {kernel for function in functions for _, kernel in function.products()}
    for function in functions:
        function.change(kernels)
    for node in graph.node:  # makes variables, reads them for nobody, and calls functions
        if node.name in kernels or (node.op == "ReadVariableOp" and node.input[0] in kernels):
            node.attr["dtype"].type = DT_BFLOAT16
    return sorted(kernels)


class _Function(NamedTuple):
    """A function that is called.

    Attributes:
      definition: what it is made of.
      variables: its inputs that are variables -> their names in the main graph.
    """

    definition: "FunctionDef"
    variables: Mapping[str, str]

    def products(self) -> "Iterator[tuple[NodeDef, str]]":
        """The encoder's products, each with the variable by which it multiplies."""
        reads = {node.name: node for node in self.definition.node_def if node.op == "ReadVariableOp"}
        for node in self.definition.node_def:
            if node.op in _PRODUCTS and _ENCODER.match(node.name):
                read = reads.get(node.input[1].split(":")[0])
                if read is not None and read.input[0] in self.variables:
                    yield node, self.variables[read.input[0]]

    def change(self, kernels: set[str]) -> None:
        """Makes these variables bfloat16."""
        from tensorflow.core.framework.types_pb2 import DT_BFLOAT16

        taken = {name for name, variable in self.variables.items() if variable in kernels}
        for argument in self.definition.signature.input_arg:
            for described in argument.handle_data if argument.name in taken else ():
                described.dtype = DT_BFLOAT16
        wide = {}  # an output that is bfloat16 now -> the same as float32
        products = {node.name: node.input[1] for node, _ in self.products()}
        for node in list(self.definition.node_def):
            if node.op in ("ReadVariableOp", "AssignVariableOp") and node.input[0] in taken:
                node.attr["dtype"].type = DT_BFLOAT16
                if node.op == "AssignVariableOp":
                    node.input[1] = self._narrow(node, node.input[1])
                else:
                    wide[f"{node.name}:value:0"] = self._widen(node, f"{node.name}:value:0")
            elif node.name in products:
                node.attr["T"].type = DT_BFLOAT16
                node.input[0] = self._narrow(node, node.input[0])
                output = f"{node.name}:{_PRODUCTS[node.op]}:0"
                wide[output] = self._widen(node, output)
        for node in self.definition.node_def:
            if f"{node.name}:y:0" not in wide.values():
                node.input[:] = [wide.get(each, each) for each in node.input]
            if node.name in products:
                node.input[1] = products[node.name]
        for name, output in self.definition.ret.items():
            self.definition.ret[name] = wide.get(output, output)

    def _narrow(self, beside: "NodeDef", output: str) -> str:
        from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT

        return self._cast(f"{beside.name}/bfloat16", output, DT_FLOAT, DT_BFLOAT16)

    def _widen(self, beside: "NodeDef", output: str) -> str:
        from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT

        return self._cast(f"{beside.name}/float32", output, DT_BFLOAT16, DT_FLOAT)

    def _cast(self, name: str, output: str, source: int, target: int) -> str:
        node = self.definition.node_def.add(name=name, op="Cast", input=[output])
        node.attr["SrcT"].type, node.attr["DstT"].type = source, target
        return f"{name}:y:0"


def _functions(graph: "GraphDef") -> list[_Function]:
    """Every function that is called, however deep; a variable is the same in all calls, as it was captured."""
    definitions = {each.signature.name: each for each in graph.library.function}
    found: dict[str, _Function] = {}
    own = {node.name: node.name for node in graph.node if node.op == "VarHandleOp"}
    calls = [(node, own) for node in graph.node]
    while calls:
        node, variables = calls.pop()
        given = [taken for taken in node.input if not taken.startswith("^")]
        for name in {value.func.name for value in node.attr.values()} & definitions.keys() - found.keys():
            arguments = [argument.name for argument in definitions[name].signature.input_arg]
            # What a branch is chosen by stands before what it is given.
            handed = zip(arguments, given[len(given) - len(arguments) :], strict=True)
            bound = {argument: variables[taken] for argument, taken in handed if taken in variables}
            found[name] = _Function(definitions[name], bound)
            calls += [(inner, bound) for inner in definitions[name].node_def]
    return list(found.values())
