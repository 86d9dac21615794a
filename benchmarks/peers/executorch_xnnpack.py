"""ExecuTorch with its XNNPACK delegate on one layer, where the package is installed."""

from collections.abc import Callable

from peers.eager import layer_alone

NAME_INT8, NAME_FLOAT = "ExecuTorch XNNPACK int8", "ExecuTorch XNNPACK fp32"


def release() -> str:
    """The version that runs."""
    from importlib.metadata import version
    return f"ExecuTorch {version('executorch')}"


def prepare_float(layer) -> Callable[[], object]:
    """float32."""
    import torch
    module, x = layer_alone(layer)
    return _opened(torch.export.export(module, (x,)), x)


def prepare_int8(layer) -> Callable[[], object]:
    """Static int8, a scale for each output channel, by the delegate's own quantizer."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    module, x = layer_alone(layer)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(
        is_per_channel=True))
    observed = prepare_pt2e(torch.export.export(module, (x,)).module(), quantizer)
    observed(x)
    return _opened(torch.export.export(convert_pt2e(observed), (x,)), x)


def _opened(exported, x) -> Callable[[], object]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    _unsafe_reset_threadpool(1)
    buffer = lowered.to_executorch().buffer
    program = Runtime.get().load_program(buffer)
    method = program.load_method("forward")

    def run(keep=(buffer, program)):  # the method does not keep what it lives in
        return method.execute([x])
    return run
