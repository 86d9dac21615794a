"""LiteRT (its XNNPACK kernels) on one layer: dense int8, the steps folded into the batch."""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from edgesvit.lower.litert.dense import lone_layer
from edgesvit.lower.litert.graph import Graph
from edgesvit.lower.litert.writer import Quantized
from edgesvit.program.ops import SpikeConv
from peers.layers import Layer, random_spikes, random_weight

NAME = "LiteRT int8"
PACKAGES = ("ai-edge-litert", "flatbuffers", "numpy")


def release() -> str:
    """The version that runs."""
    return f"LiteRT {version('ai-edge-litert')}"


def model(layer: Layer) -> bytes:
    """A .tflite file: int8 [T, side, side, channels] -> int8 [.., out_channels]; no neurons."""
    g = Graph()
    shape = [layer.time_steps, layer.side, layer.side, layer.channels]
    x = g.tensor(shape, "int8", Quantized(1.0))
    none = np.zeros(layer.out_channels, np.int32)
    op = SpikeConv("", "", layer.kernel, 1, layer.kernel // 2, random_weight(layer), none,
                   certified=none.astype(bool))
    y = lone_layer(g, x, op, (1.0, np.full(layer.out_channels, 0.01, np.float32), 0.5))
    return g.finish([x], [y])


def opened(data: bytes) -> Callable[[], object]:
    """Something to call again and again: one inference on one thread."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter.invoke


def prepare(layer: Layer) -> Callable[[], object]:
    """The layer with spikes in its input."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=model(layer), num_threads=1)
    interpreter.allocate_tensors()
    at = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(at, random_spikes(layer).astype(np.int8))
    return interpreter.invoke
