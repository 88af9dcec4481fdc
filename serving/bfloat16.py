"""The encoder's products in bfloat16, where the processor multiplies it: half the bytes, twice the numbers an instruction."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from serving.graph_functions import CalledFunction, called_functions

if TYPE_CHECKING:
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef

# Linux's names of instructions that multiply bfloat16.
_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})
# The name scope of `towers.encoder.TextEncoder`, which Keras and TensorFlow number.
_ENCODER = re.compile(r"encoder(_\d+)?/")
# Operations whose second input may be a kernel -> their output, as functions call it.
_PRODUCTS = {"Einsum": "output", "MatMul": "product", "BatchMatMulV2": "output"}


def multiplies_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has instructions for it, and TensorFlow uses them; without them it is slower than float32."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return False
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:  # not Linux
        return False
    return any(not _INSTRUCTIONS.isdisjoint(line.split()) for line in lines if line.startswith("flags"))


def encoder_to_bfloat16(graph: "GraphDef") -> None:
    """Has a SavedModel's graph hold the encoder's kernels in bfloat16, and multiply by them in it; changes it in place.

    Inputs and results of these products are rounded; all else is computed as before. What reads a kernel in another way
    gets float32, and what is written to one, as when it is restored, is rounded.

    Args:
      graph: whose functions multiply by variables within the name scope of the encoder.
    """
    from tensorflow.core.framework.types_pb2 import DT_BFLOAT16

    functions = [(function, list(_products(function))) for function in called_functions(graph)]
    kernels = {kernel for _, products in functions for _, kernel in products}
    for function, products in functions:
        _change(function, {node.name: node.input[1] for node, _ in products}, kernels)
    for node in graph.node:  # makes variables, reads them for nobody, and calls functions
        if node.name in kernels or (node.op == "ReadVariableOp" and node.input[0] in kernels):
            node.attr["dtype"].type = DT_BFLOAT16


def _products(function: CalledFunction) -> "Iterator[tuple[NodeDef, str]]":
    """The encoder's products, each with the variable by which it multiplies."""
    reads = {node.name: node for node in function.definition.node_def if node.op == "ReadVariableOp"}
    for node in function.definition.node_def:
        if node.op in _PRODUCTS and _ENCODER.match(node.name):
            read = reads.get(node.input[1].split(":")[0])
            if read is not None and read.input[0] in function.variables:
                yield node, function.variables[read.input[0]]


def _change(function: CalledFunction, products: Mapping[str, str], kernels: set[str]) -> None:
    """Makes these variables bfloat16, and products, by name -> what they multiply by."""
    from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT

    nodes = function.definition.node_def

    def cast(name: str, output: str, source: int, target: int) -> str:
        node = nodes.add(name=name, op="Cast", input=[output])
        node.attr["SrcT"].type, node.attr["DstT"].type = source, target
        return f"{name}:y:0"

    def narrow(node: "NodeDef", place: int) -> None:
        name = f"{node.name}/bfloat16"
        node.input[place] = cast(name, node.input[place], DT_FLOAT, DT_BFLOAT16)

    taken = {name for name, variable in function.variables.items() if variable in kernels}
    if not taken:
        return
    wide = {}  # an output that is bfloat16 now -> the same as float32
    own = list(nodes)
    for node in own:
        if node.op == "AssignVariableOp" and node.input[0] in taken:
            node.attr["dtype"].type = DT_BFLOAT16
            narrow(node, 1)
        elif node.op == "ReadVariableOp" and node.input[0] in taken:
            node.attr["dtype"].type = DT_BFLOAT16
            output = f"{node.name}:value:0"
            wide[output] = cast(f"{node.name}/float32", output, DT_BFLOAT16, DT_FLOAT)
        elif node.name in products:
            node.attr["T"].type = DT_BFLOAT16
            output = f"{node.name}:{_PRODUCTS[node.op]}:0"
            wide[output] = cast(f"{node.name}/float32", output, DT_BFLOAT16, DT_FLOAT)
    for node in own:
        for place, output in enumerate(node.input):
            if output in wide:
                node.input[place] = wide[output]
        if node.name in products:
            node.input[1] = products[node.name]
            narrow(node, 0)
    for name, output in function.definition.ret.items():
        function.definition.ret[name] = wide.get(output, output)
