"""Writes .tflite files operator by operator, through LiteRT's own schema. No converter."""

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

BUILTIN, OPTIONS, TYPES = (schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType)
_TYPE = {"float32": TYPES.FLOAT32, "int8": TYPES.INT8, "int32": TYPES.INT32}
SAME, VALID = 0, 1  # paddings
RELU = schema.ActivationFunctionType.RELU


@dataclass(frozen=True)
class Quantized:
    """real = scale * (stored - zero_point); several scales count along `axis`."""

    scale: float | np.ndarray
    zero_point: int = 0
    axis: int = 0

    def record(self) -> "schema.QuantizationParametersT":
        """As the file holds it."""
        q = schema.QuantizationParametersT()
        q.scale = np.atleast_1d(np.asarray(self.scale, np.float32))
        q.zeroPoint = np.full(len(q.scale), self.zero_point, np.int64)
        q.quantizedDimension = self.axis
        return q


class Writer:
    """One subgraph that grows. Tensors are named by their index; shapes are lists of int."""

    def __init__(self) -> None:
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, b"edgesvit benchmark"
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._model.subgraphs = [self._graph]
        self._graph.tensors, self._graph.operators, self._graph.name = [], [], b"main"
        self._codes: dict[tuple[int, int], int] = {}
        self._scalars: dict[bytes, int] = {}

    def tensor(self, shape: list[int], dtype: str, quantized: Quantized | None = None,
               data: np.ndarray | None = None) -> int:
        """A new tensor; with `data` a constant."""
        t = schema.TensorT()
        t.name = f"t{len(self._graph.tensors)}".encode()
        t.shape, t.type, t.buffer, t.hasRank = np.asarray(shape, np.int32), _TYPE[dtype], 0, True
        if quantized:
            t.quantization = quantized.record()
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            t.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(t)
        return len(self._graph.tensors) - 1

    def constant(self, data: np.ndarray, quantized: Quantized | None = None) -> int:
        """A constant; equal small ones are stored once."""
        data = np.asarray(data)
        key = data.dtype.str.encode() + repr(data.shape).encode() + data.tobytes()
        if data.size > 16 or quantized:
            return self.tensor(list(data.shape), data.dtype.name, quantized, data)
        if key not in self._scalars:
            self._scalars[key] = self.tensor(list(data.shape), data.dtype.name, None, data)
        return self._scalars[key]

    def shape(self, tensor: int) -> list[int]:
        """Of a tensor."""
        return [int(n) for n in self._graph.tensors[tensor].shape]

    def op(self, kind: str, inputs: list[int], outputs: list[int], version: int = 1,
           **settings: object) -> list[int]:
        """Append the operator `kind`, its options' fields as keywords; returns `outputs`."""
        record = schema.OperatorT()
        record.opcodeIndex = self._code(getattr(BUILTIN, kind), version)
        record.inputs, record.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        name = _OPTIONS.get(kind)
        if name:
            record.builtinOptions = getattr(schema, name + "T")()
            record.builtinOptionsType = getattr(OPTIONS, name)
            for field, value in settings.items():
                setattr(record.builtinOptions, field, value)
        self._graph.operators.append(record)
        return outputs

    def _code(self, builtin: int, version: int) -> int:
        key = (builtin, version)
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            self._model.operatorCodes.append(code)
            self._codes[key] = len(self._codes)
        return self._codes[key]

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        self._graph.inputs = np.array(inputs, np.int32)
        self._graph.outputs = np.array(outputs, np.int32)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


_OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "CONV_2D": "Conv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "MAX_POOL_2D": "Pool2DOptions",
    "RESHAPE": "ReshapeOptions", "SPLIT": "SplitOptions", "CONCATENATION": "ConcatenationOptions",
    "BATCH_MATMUL": "BatchMatMulOptions", "MEAN": "ReducerOptions", "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions",
    "QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions", "PAD": "PadOptions",
}


def int8_layer(w: Writer, x: int, weight: np.ndarray, bias: np.ndarray, kernel: int,
               scales: tuple[float, np.ndarray, float], stride: int = 1, relu: bool = False) -> int:
    """A linear layer or convolution, int8 in and out: weight int8 [K, C_out], K tap-major.

    scales: of the input, of each output channel's weights, of the output.
    """
    of_input, of_weight, of_output = scales
    channels = weight.shape[1]
    shape = [channels, -1] if kernel == 1 else [channels, kernel, kernel, w.shape(x)[-1]]
    stored = w.constant(weight.T.reshape(shape), Quantized(of_weight))
    added = w.constant(bias.astype(np.int32), Quantized(of_input * of_weight))
    out = [*w.shape(x)[:-1], channels]
    activation = RELU if relu else 0
    if kernel == 1:
        y = w.tensor(out, "int8", Quantized(of_output))
        w.op("FULLY_CONNECTED", [x, stored, added], [y], version=4, keepNumDims=True,
             fusedActivationFunction=activation)
        return y
    out[1:3] = [-(-n // stride) for n in out[1:3]]
    y = w.tensor(out, "int8", Quantized(of_output))
    w.op("CONV_2D", [x, stored, added], [y], version=3, padding=SAME, strideH=stride,
         strideW=stride, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=activation)
    return y
