"""LiteRT (its XNNPACK kernels) on one layer: dense int8, the steps folded into the batch."""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from peers.layers import Layer, random_spikes, random_weight

NAME = "LiteRT int8"
PACKAGES = ("ai-edge-litert", "flatbuffers", "numpy")


def release() -> str:
    """The version that runs."""
    return f"LiteRT {version('ai-edge-litert')}"


def model(layer: Layer) -> bytes:
    """A .tflite file: int8 [T, side, side, channels] -> int8 [.., out_channels]; no neurons."""
    from peers.tflite_writer import Quantized, Writer, int8_layer
    w = Writer()
    shape = [layer.time_steps, layer.side, layer.side, layer.channels]
    x = w.tensor(shape, "int8", Quantized(1.0))
    scales = (1.0, np.full(layer.out_channels, 0.01, np.float32), 0.5)
    y = int8_layer(w, x, random_weight(layer), np.zeros(layer.out_channels), layer.kernel, scales)
    return w.finish([x], [y])


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
