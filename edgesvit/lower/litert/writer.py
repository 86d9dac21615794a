"""Writes .tflite files operator by operator, through LiteRT's own schema. No converter."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgesvit.lower.litert.package import schema as load_schema

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

# Numbers of the format, as in the schema.
_TYPE = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9, "int4": 17}
SAME, VALID = 0, 1  # paddings
RELU = 1
_SHARED = 16  # constants of so few numbers are stored once
TRAILER = b"ESVT"  # then the CRC-32 of all before it: LiteRT itself dies of a damaged file


@dataclass(frozen=True)
class Quantized:
    """real = scale * (stored - zero_point); several scales count along `axis`."""

    scale: float | np.ndarray
    zero_point: int = 0
    axis: int = 0

    def record(self, schema: object) -> schema.QuantizationParametersT:
        """As the file holds it."""
        q = schema.QuantizationParametersT()
        q.scale = np.atleast_1d(np.asarray(self.scale, np.float32))
        q.zeroPoint = np.full(len(q.scale), self.zero_point, np.int64)
        q.quantizedDimension = self.axis
        return q


class Writer:
    """One subgraph that grows. Tensors are named by their index; shapes are lists of int."""

    def __init__(self) -> None:
        self._schema = schema = load_schema()
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, b"edgesvit"
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._model.subgraphs = [self._graph]
        self._graph.tensors, self._graph.operators, self._graph.name = [], [], b"main"
        self._codes: dict[tuple[str, int, str], int] = {}
        self._shared: dict[bytes, int] = {}
        self.metadata: dict[str, bytes] = {}

    def tensor(self, shape: list[int], dtype: str, quantized: Quantized | None = None,
               data: np.ndarray | None = None) -> int:
        """A new tensor; with `data` a constant."""
        t = self._schema.TensorT()
        t.shape, t.type, t.buffer = np.asarray(shape, np.int32), _TYPE[dtype], 0
        t.hasRank = not shape  # a scalar, not a shape that is unknown
        if quantized:
            t.quantization = quantized.record(self._schema)
        if data is not None:
            t.buffer = self._buffer(np.ascontiguousarray(data).tobytes())
        self._graph.tensors.append(t)
        return len(self._graph.tensors) - 1

    def _buffer(self, data: bytes) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def constant(self, data: np.ndarray, quantized: Quantized | None = None) -> int:
        """A constant; equal small ones are stored once."""
        data = np.asarray(data)
        key = data.dtype.str.encode() + repr(data.shape).encode() + data.tobytes()
        if data.size > _SHARED or quantized:
            return self.tensor(list(data.shape), data.dtype.name, quantized, data)
        if key not in self._shared:
            self._shared[key] = self.tensor(list(data.shape), data.dtype.name, None, data)
        return self._shared[key]

    def shape(self, tensor: int) -> list[int]:
        """Of a tensor."""
        return [int(n) for n in self._graph.tensors[tensor].shape]

    def op(self, kind: str, inputs: list[int], outputs: list[int], version: int = 1,
           **settings: object) -> list[int]:
        """Append the operator `kind`, its options' fields as keywords; returns `outputs`."""
        record = self._operator(self._code(kind, version), inputs, outputs)
        name = _OPTIONS.get(kind)
        if name:
            record.builtinOptions = getattr(self._schema, name + "T")()
            record.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
            for field, value in settings.items():
                setattr(record.builtinOptions, field, value)
        return outputs

    def custom(self, name: str, inputs: list[int], outputs: list[int], options: bytes) -> list[int]:
        """Append a custom operator; the runtime needs a delegate that knows it."""
        code = self._code("CUSTOM", 1, name)
        self._operator(code, inputs, outputs).customOptions = np.frombuffer(options, np.uint8)
        return outputs

    def _operator(self, code: int, inputs: list[int], outputs: list[int]) -> schema.OperatorT:
        record = self._schema.OperatorT()
        record.opcodeIndex = code
        record.inputs, record.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        self._graph.operators.append(record)
        return record

    def _code(self, kind: str, version: int, custom: str = "") -> int:
        key = (kind, version, custom)
        if key not in self._codes:
            code = self._schema.OperatorCodeT()
            builtin = getattr(self._schema.BuiltinOperator, kind)
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            code.customCode = custom.encode() or None
            self._model.operatorCodes.append(code)
            self._codes[key] = len(self._codes)
        return self._codes[key]

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        self._graph.inputs = np.array(inputs, np.int32)
        self._graph.outputs = np.array(outputs, np.int32)
        self._model.metadata = [self._entry(*pair) for pair in self.metadata.items()]
        import flatbuffers  # here: only who writes a file needs it

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        data = bytes(builder.Output())
        return data + TRAILER + struct.pack("<I", zlib.crc32(data))

    def _entry(self, name: str, data: bytes) -> schema.MetadataT:
        entry = self._schema.MetadataT()
        entry.name, entry.buffer = name.encode(), self._buffer(data)
        return entry


_OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "MAX_POOL_2D": "Pool2DOptions",
    "RESHAPE": "ReshapeOptions", "SPLIT": "SplitOptions", "CONCATENATION": "ConcatenationOptions",
    "BATCH_MATMUL": "BatchMatMulOptions", "MEAN": "ReducerOptions", "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions", "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions", "SLICE": "SliceOptions", "CAST": "CastOptions",
    "QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions", "PAD": "PadOptions",
}
