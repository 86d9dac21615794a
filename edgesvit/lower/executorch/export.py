"""A spike program as an ExecuTorch program whose operators are ours, all of them integer."""

import itertools
from collections.abc import Iterator

import torch
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass

from edgesvit.lower.executorch import operators
from edgesvit.program import file
from edgesvit.program.ops import Kind, Op, Program, inputs
from edgesvit.program.plan import Plan, plan


class SpikeModule(torch.nn.Module):
    """The operators of a program one after the other; the .esv file is its only constant."""

    def __init__(self, program: Program):
        super().__init__()
        self._spikes = program
        self.register_buffer("esv", torch.frombuffer(bytearray(file.to_bytes(program)),
                                                     dtype=torch.uint8))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits int32 [classes] of uint8 [H, W, C], or of event counts [T, H, W, C]."""
        values = {self._spikes.input.name: image}
        for index, ops in groups(self._spikes):
            call = getattr(torch.ops.edgesvit, operators.op_name(ops[0], len(ops)))
            results = call(self.esv, index, [values[name] for name in inputs(ops[0])],
                           operators.layout(self._spikes, ops))
            values |= {op.output: out for op, out in zip(ops, results, strict=False)}
        return values[self._spikes.output.name]


def groups(program: Program) -> Iterator[tuple[int, tuple[Op, ...]]]:
    """Operators that run as one, with the index of the first: siblings, as the C runtime has them.
    """
    timed = zip(plan(program).times, enumerate(program.ops), strict=True)
    for _, same in itertools.groupby(timed, key=lambda pair: pair[0]):
        members = [member for _, member in same]
        membranes = program.value(inputs(members[0][1])[0]).kind == Kind.MEMBRANE
        for some in _chunks(members, 1 if membranes else operators.MOST_SIBLINGS):
            yield some[0][0], tuple(op for _, op in some)


def _chunks(items: list, most: int) -> Iterator[list]:
    for start in range(0, len(items), most):
        yield items[start:start + most]


def export(program: Program) -> bytes:
    """The .pte file."""
    shape = operators.shape_of(program.input.kind, program.time_steps, *program.input.shape)
    image = torch.zeros(shape, dtype=torch.uint8)
    with torch.no_grad():
        exported = torch.export.export(SpikeModule(program), (image,))
    edge = to_edge_transform_and_lower(exported)
    memory = MemoryPlanningPass(memory_planning_algo=_Placement(program),
                                allow_lifetime_and_storage_overlap=True)
    return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=memory)).buffer


class _Placement:
    """ExecuTorch's memory planner replaced by the program's own plan: the same arena everywhere,
    residual additions in place included."""

    def __init__(self, program: Program):
        self._program = program
        self._plan: Plan = plan(program)

    def __call__(self, alignment: int, specs: list, graph_module: torch.fx.GraphModule,
                 signature: object, padding: int) -> list[int]:
        """Give every tensor its place; returns the sizes of all arenas (the first is unused)."""
        offsets = {}
        for node in graph_module.graph.nodes:
            offsets |= self._node(node)
        for spec in specs:
            spec.realign(alignment)
            spec.mem_id, spec.mem_offset = 1, offsets[spec]
        return [0, self._plan.arena_bytes]

    def _node(self, node: torch.fx.Node) -> dict:
        """Places of what a node makes, by its specification."""
        if node.op == "placeholder" and node.target == "image":
            return {node.meta["spec"]: self._plan.value_offset[self._program.input.name]}
        if not str(node.target).startswith("edgesvit"):
            return {}
        index, specs = node.args[1], node.meta["spec"]
        outputs = [op.output for op in self._program.ops[index:index + len(specs) - 1]]
        places = [*(self._plan.value_offset[name] for name in outputs),
                  self._plan.scratch_offset[index]]
        return dict(zip(specs, places, strict=True))
