"""Memory of a .tflite file ahead of time; activations by liveness and greedy placement by size.

TFLite's own planner does the same with 64-byte alignment, and XNNPACK plans its workspace this way.
XNNPACK also keeps packed weights, in float32 where it computes in float32.
"""

import numpy as np

from edgesvit.lower.litert.package import schema

_BYTES = {0: 4, 2: 4, 3: 1, 9: 1, 17: 0.5}  # by tensor type
_ALIGN = 64
# What LiteRT 2.3.0 keeps beside activations and weights, from resident memory before and after it
# loads a model. Of fifteen models of 50 to 2340 operators it says 0.8 to 1.2 of what was observed,
# save for int8 networks with depthwise convolutions: 0.4 to 0.9, as their workspace is not counted.
_RUNTIME, _OPERATOR = 200 * 1024, 3700


def activation_bytes(model: bytes) -> int:
    """The arena that holds all activations of the first subgraph."""
    graph = _graph(model)
    life: dict[int, list[int]] = {int(i): [0, len(graph.operators)] for i in graph.inputs}
    for at, op in enumerate(graph.operators):
        for i in (*op.outputs, *op.inputs):
            if i >= 0 and not graph.tensors[i].buffer:
                life.setdefault(int(i), [at, at])[1] = at
    for i in graph.outputs:
        life[int(i)][1] = len(graph.operators)
    placed: list[tuple[int, int, int, int]] = []  # begin, end, first, last
    for i in sorted(life, key=lambda i: -_size(graph.tensors[i])):
        begin = _gap(_size(graph.tensors[i]), life[i], placed)
        placed.append((begin, begin + _size(graph.tensors[i]), *life[i]))
    return max(end for _, end, _, _ in placed)


def resident_bytes(model: bytes) -> int:
    """All that a loaded model takes: activations, packed weights, and LiteRT's own records."""
    return (activation_bytes(model) + packed_bytes(model) + _RUNTIME
            + _OPERATOR * len(_graph(model).operators))


def packed_bytes(model: bytes) -> int:
    """Constants as float kernels keep them: a float32 each, int8 layers aside."""
    graph = _graph(model)
    floats = {int(op.outputs[0]) for op in graph.operators
              if not graph.tensors[op.outputs[0]].type and len(op.inputs) == 1}
    expanded = {int(op.inputs[0]) for op in graph.operators if int(op.outputs[0]) in floats}
    return sum(_elements(t) * 4 if i in expanded else _size(t)
               for i, t in enumerate(graph.tensors) if t.buffer)


def _graph(model: bytes):  # noqa: ANN202 - a class of the generated schema
    s = schema()
    return s.ModelT.InitFromObj(s.Model.GetRootAs(model, 0)).subgraphs[0]


def _elements(tensor: object) -> int:
    return int(np.prod(tensor.shape)) if len(tensor.shape) else 1


def _size(tensor: object) -> int:
    return -(-int(_elements(tensor) * _BYTES[tensor.type]) // _ALIGN) * _ALIGN


def _gap(size: int, life: list[int], placed: list[tuple[int, int, int, int]]) -> int:
    """The lowest place free of everything that lives at the same time."""
    begin = 0
    for other, end, first, last in sorted(placed):
        if first <= life[1] and life[0] <= last:
            if begin + size <= other:
                break
            begin = max(begin, end)
    return begin
