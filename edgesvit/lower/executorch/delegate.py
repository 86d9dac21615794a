"""A spike program as a .pte file that ExecuTorch's XNNPACK backend runs, in float32 or int8.

ExecuTorch runs a network again for each of its passes, operator by operator. Most of the time goes
there; passes over operators that no network of ours has are left out.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import torch
from executorch.backends.xnnpack import xnnpack_preprocess
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.utils.configs import get_xnnpack_edge_compile_config
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.program import _program
from torch.export import ExportedProgram
from torch.fx.traceback import NodeSource

from edgesvit.lower.executorch.floats import FloatProgram
from edgesvit.lower.executorch.operators import shape_of
from edgesvit.lower.executorch.quantize import quantize
from edgesvit.program.ops import Program

# Interpolation, batch normalisation, symbolic shapes and the rest: our networks have none of it.
_NOT_OURS = {"ConvertToUpsampleBilinear2d", "PropagateCustomMetaPass", "ConvertToSDPAPass",
             "FuseBatchNormPass", "DecomposeBatchNorm", "RemoveGetItemPass", "InsertPadQDQPass",
             "Conv1dUnsqueezePass", "PReLUReshapePass", "ConstPropPass", "ConvertToLinearPass",
             "DimOrderOpsRevertPass", "ReplaceSymSizeOpPass", "NormalizeTransposePass",
             "SymToTensorPass", "PruneEmptyTensorsPass", "FoldRedundantDequantizeQuantizePass"}


class _Passes(xnnpack_preprocess.XNNPACKPassManager):
    def __init__(self, program: ExportedProgram, passes: list | None = None):
        super().__init__(program, passes)
        self.passes = _ours(self.passes)


def _ours(passes: list) -> list:
    return [each for each in passes if each.__name__ not in _NOT_OURS]


class _Partitioner(XnnpackPartitioner):
    def ops_to_not_decompose(self, program: ExportedProgram) -> tuple[list, Callable | None]:
        """Without a check of each: that costs two more passes, and none of ours would fail it."""
        return super().ops_to_not_decompose(program)[0], None


def export(program: Program, images: np.ndarray | None, twin: bool = False) -> bytes:
    """The .pte file in float32, or int8 with scales from `images` uint8 [n, H, W, C]."""
    blank = torch.zeros(shape_of(program.input.kind, program.time_steps, *program.input.shape))
    network = FloatProgram(program, twin).eval()
    if images is not None:
        quantize(network, images)
    with torch.no_grad(), _quick():
        exported = torch.export.export(network, (blank,))
        edge = to_edge_transform_and_lower(exported, partitioner=[_Partitioner()],
                                           compile_config=get_xnnpack_edge_compile_config(skip_dim_order=True))
        return edge.to_executorch().buffer


@contextlib.contextmanager
def _quick() -> Iterator[None]:
    """Without passes that find nothing, without a copy of each operator's whole history for each
    operator of each pass (it is only ever printed), and without looking for garbage among millions
    of objects that live to the end."""
    first = _ours(_program.base_pre_op_replace_passes)
    collects = gc.isenabled()
    gc.disable()
    with (mock.patch.object(xnnpack_preprocess, "XNNPACKPassManager", _Passes),
          mock.patch.object(_program, "base_pre_op_replace_passes", first),
          mock.patch.object(NodeSource, "__deepcopy__", lambda source, memo: source, create=True)):
        try:
            yield
        finally:
            if collects:
                gc.enable()
