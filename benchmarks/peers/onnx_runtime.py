"""ONNX Runtime on one layer: QLinearMatMul or QLinearConv, the steps folded into the batch."""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from peers.layers import Layer, random_spikes, random_weight

NAME = "ONNX Runtime int8"
PACKAGES = ("onnxruntime", "flatbuffers", "numpy", "packaging", "protobuf")


def release() -> str:
    """The version that runs."""
    return f"ONNX Runtime {version('onnxruntime')}"


def model(layer: Layer) -> bytes:
    """An .onnx file: uint8 spikes, int8 weights, uint8 out; channels first for convolutions."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    weight, (n, side) = random_weight(layer), (layer.time_steps, layer.side)
    if layer.kernel == 1:
        kind, settings = "QLinearMatMul", {}
        shapes = ([n * side * side, layer.channels], [n * side * side, layer.out_channels])
    else:
        kind, settings = "QLinearConv", {"pads": [layer.kernel // 2] * 4}
        weight = weight.T.reshape(layer.out_channels, layer.kernel, layer.kernel, layer.channels)
        weight = weight.transpose(0, 3, 1, 2)
        shapes = ([n, layer.channels, side, side], [n, layer.out_channels, side, side])
    constants = {
        "w": np.ascontiguousarray(weight), "xs": np.float32(1), "xz": np.uint8(0),
        "ws": np.float32(0.01), "wz": np.int8(0), "ys": np.float32(0.5), "yz": np.uint8(128)}
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"], **settings)], "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shapes[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def prepare(layer: Layer) -> Callable[[], object]:
    """The layer with spikes in its input, bound once: no copies while it runs."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(layer), options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    shape = session.get_inputs()[0].shape
    spikes = random_spikes(layer)
    if layer.kernel > 1:
        spikes = spikes.transpose(0, 3, 1, 2)
    binding.bind_cpu_input("x", np.ascontiguousarray(spikes.reshape(shape)))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)
