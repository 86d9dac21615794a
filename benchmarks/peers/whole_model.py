"""Predicted cycles of a published model at its full size, on one Cortex-A76 core.

Weights are random, and one synthetic image of 224 x 224 runs on our aarch64 runner under emulation.
Thresholds of every layer are scaled by one number until it fires at 15 %, in one of three ways (see
firing.calibrated). The first one is the one of a trained model: what layers read fires so, and a
neuron's steps are as alike as those of LIF-like spikes, which random layers' are not. In the second
they are what random weights make them. In the third every neuron fires so, and pooling and the
residual sums bring layers inputs that fire more often. A further figure adds up the layers of the
model as kernels.py has them: LIF-like spikes at 15 % everywhere, sums of int16. llvm-mca knows no
cache misses and no wrong branch guesses.
"""

from edgesvit.errors import EdgesvitError
from edgesvit.program.file import to_bytes
from edgesvit.program.ops import Kind, Program, SelfAttention, SpikeConv
from edgesvit.report.table import table
from peers import attention, firing, mca
from peers.layers import Firing, Layer
from peers.runner_estimate import Function, functions

MODEL = "spikformer-8-512"
RATE = 0.15
WAYS = ("lif", "inputs", "neurons")
_NAMED = 0.01  # functions that take less are summed up


def show() -> list[dict]:
    """Estimate, print, and return a row a way of firing."""
    if not mca.tool():
        raise EdgesvitError("needs llvm-mca of LLVM 17 or newer", "apt-get install llvm-19")
    from imagenet_size import random_program, synthetic_images
    images = synthetic_images(2)
    program = random_program(MODEL, images)
    rows = []
    for way in WAYS:
        scaled, layers = firing.calibrated(program, images[0], RATE, way)
        found = functions(to_bytes(scaled), images[0])
        rows.append(_row(way, layers, found))
        _print(rows[-1], scaled.time_steps)
    rows.append({"firing": "layers alone", "cycles": layers_alone(program)})
    print(f"\nits spiking layers and attention alone, each at 15 % lif with sums of int16: "
          f"{rows[-1]['cycles'] / 1e6:.0f} M predicted cycles")
    return rows


def layers_alone(program: Program) -> float:
    """Every spiking layer as the layer program runs it on 14 x 14 tokens, times its tokens / 196.

    Without the first convolution, pooling and sums of spikes.
    """
    total = 0.0
    for op in program.ops:
        if isinstance(op, SpikeConv):
            layer = Layer(op.weight.shape[0] // op.kernel**2, op.channels, op.kernel,
                          program.time_steps)
            tokens = program.value(op.output).tokens
            total += mca.cycles("ours", layer, Firing()) * tokens / layer.side**2
        elif isinstance(op, SelfAttention):
            total += attention.cost("ours", Firing()).cycles * op.heads * program.time_steps
    return total


def _row(way: str, layers: list[firing.LayerInput], found: list[Function]) -> dict:
    rate, union = firing.mean_firing(layers)
    kinds = {kind.name.lower(): firing.mean_firing([x for x in layers if x.kind == kind])
             for kind in (Kind.SPIKES, Kind.LEVELS)}
    return {"firing": way, "rate": rate, "union": union, "of": kinds,
            "cycles": sum(f.cycles for f in found),
            "instructions": sum(f.instructions for f in found),
            "functions": [vars(f) for f in found]}


def _print(row: dict, steps: int) -> None:
    print(f"\n{MODEL}, 224 x 224, T = {steps}, {RATE:.0%} of the {row['firing']} fire, one "
          f"Cortex-A76 core: {row['cycles'] / 1e6:.0f} M predicted cycles, "
          f"{row['instructions'] / 1e6:.0f} M instructions")
    print(f"layers read inputs that are not 0 in {row['rate']:.1%} of the steps, and in any step "
          f"{row['union']:.1%} (means by multiply-accumulates); " + ", ".join(
              f"of {kind} {rate:.1%} and {union:.1%}" for kind, (rate, union) in row["of"].items()))
    named = [f for f in row["functions"] if f["cycles"] >= _NAMED * row["cycles"]]
    rest = [f for f in row["functions"] if f not in named]
    named.append({"name": f"{len(rest)} others"} | {
        key: sum(f[key] for f in rest) for key in ("cycles", "instructions")})
    print(table(("function", "cycles, M", "share", "instructions, M"),
                [(f["name"], f"{f['cycles'] / 1e6:.1f}", f"{f['cycles'] / row['cycles']:.1%}",
                  f"{f['instructions'] / 1e6:.1f}") for f in named]))
