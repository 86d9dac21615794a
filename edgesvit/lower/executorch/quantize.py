"""From a program in float32 to a .pte file that XNNPACK runs, in float32 or int8."""

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from edgesvit.lower.executorch.floats import FloatProgram
from edgesvit.lower.executorch.operators import shape_of
from edgesvit.program.ops import Program


def export_float(program: Program) -> bytes:
    """The .pte file in float32."""
    return _lowered(FloatProgram(program).eval(), _blank(program))


def export_int8(program: Program, images: np.ndarray, twin: bool) -> bytes:
    """The .pte file with int8 convolutions and linear layers, scales from `images` uint8."""
    blank = _blank(program)
    graph = torch.export.export(FloatProgram(program, twin).eval(), (blank,)).module()
    quantizer, config = XNNPACKQuantizer(), get_symmetric_quantization_config(is_per_channel=True)
    for operator in (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default):
        quantizer.set_operator_type(operator, config)
    prepared = prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        for image in images:
            prepared(torch.from_numpy(image.astype(np.float32)))
    return _lowered(convert_pt2e(prepared), blank)


def _lowered(module: torch.nn.Module, blank: torch.Tensor) -> bytes:
    with torch.no_grad():
        exported = torch.export.export(module, (blank,))
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    return edge.to_executorch().buffer


def _blank(program: Program) -> torch.Tensor:
    return torch.zeros(shape_of(program.input.kind, program.time_steps, *program.input.shape))
