"""Our counts of published models beside what their papers and successors print.

    python benchmarks/published_costs.py

No trained ImageNet weights are at hand, and parameters and dense MACs need none: the programs are
built from each model's shapes alone. Firing rates cannot be counted that way;
instead the published SOPs over our dense MACs give the mean rate that they imply, which a reader
can hold against what such models do. Takes about 15 s of one core and 1 GB. docs/inspect.md holds
the output and says what it means.
"""

import re
from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from edgesvit.cost.energy import FLOAT32_ADD_PJ, FLOAT32_MAC_PJ, field_mj
from edgesvit.cost.memory import parameter_bytes, parameters
from edgesvit.cost.operations import shape_work
from edgesvit.models import families
from edgesvit.models.variants import Variant
from edgesvit.program.build import build
from edgesvit.program.ops import EncodeConv, Program
from edgesvit.report.table import table


@dataclass(frozen=True)
class Published:
    """What is printed of one model; `blocks` matches the operators that `block_gsops` counts.

    Sources: the table of TP-Spikformer (ICLR 2026) by way of a reading note, and the energy log in
    Spikingformer's repository.
    """

    model: str
    variant: str
    side: int  # of the image
    millions: float  # parameters
    mj: float
    gsops: float
    blocks: str = ""  # "": the SOPs of everything


MODELS = (
    Published("Spikingformer-8-512", "spikformer-8-512", 224, 29.71, 7.4635, 6.5175),
    Published("SDT-V1-8-768", "sdt-8-768", 224, 66.34, 10.26, 9.04, r"block\."),
    Published("SDT-V1-8-768", "sdt-8-768", 288, 66.34, 10.26, 9.04, r"block\."),
    Published("QKFormer-10-768", "QKFormer_10_768", 224, 64.96, 32.12, 15.08, r"stage\d"),
    Published("QKFormer-10-768", "QKFormer_10_768", 288, 64.96, 32.12, 15.08, r"stage\d"),
    Published("QKFormer-10-768", "QKFormer_10_768", 384, 64.96, 32.12, 15.08, r"stage\d"),
    Published("SDT-V3-19M", "Efficient_Spiking_Transformer_l", 224, 18.99, 5.47, 1.74,
              r"block\d\.\d+\.(?!conv\.)"),
)
VARIANTS = {v.name: v for family in families.FAMILIES.values() for v in family.VARIANTS}
PARAMETERS = ("model", "published", "official code", "ours", "ours/code", "in the program",
              "program MB")
MACS = ("model", "side", "first conv", "stem", "blocks", "head", "SOPs of", "published G",
        "implied %")
ENERGY = ("model", "side", "published mJ", "SOPs", "first conv", "T times", "sum/published",
          "T times", "left G AC", "is % of stem")


def trained_parameters(variant: Variant) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes of all tensors of our float model, and how many numbers training adjusts."""
    with torch.device("meta"):
        model = families.build(variant.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, sum(tensor.numel() for tensor in model.parameters())


def shape_program(variant: Variant, side: int) -> tuple[Program, int]:
    """The program of a model whose weights are all 1, and the model's parameters."""
    shapes, count = trained_parameters(variant)
    weights = {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    # All weights 1 in the classifier would be the one network whose logits exceed int32 at 384.
    weights["head.weight"] = np.random.default_rng(0).standard_normal(shapes["head.weight"])
    config = msgspec.structs.replace(variant.config, image_size=(side, side))
    return build(config, weights, (0.0,) * 3, (1.0,) * 3), count


def part_of(op: object, program: Program, blocks: str) -> str:
    """Which part of the published sums an operator belongs to."""
    if isinstance(op, EncodeConv):
        return "first conv"
    if op is program.ops[-1]:
        return "head"
    return "blocks" if re.match(blocks or r"block\.", op.output) else "stem"


def main() -> None:
    """Build, count, print."""
    counts, macs_rows, energy_rows, seen = [], [], [], set()
    for model in MODELS:
        variant = VARIANTS[model.variant]
        program, ours = shape_program(variant, model.side)
        if model.model not in seen:
            counts.append((model.model, f"{model.millions:.2f}M", variant.parameters, ours,
                           f"{ours / variant.parameters:.4f}",
                           sum(map(parameters, program.ops)),
                           f"{sum(map(parameter_bytes, program.ops)) / 1e6:.1f}"))
            seen.add(model.model)
        macs = Counter()
        for op in program.ops:
            macs[part_of(op, program, model.blocks)] += shape_work(op, program).macs / 1e9
        counted = macs["blocks"] + (0 if model.blocks else macs["stem"])
        # The level of an integer neuron counts 0..D, a rate 0..1.
        levels = getattr(variant.config, "levels", 1)
        macs_rows.append((model.model, model.side,
                          *(f"{macs[part]:.3f}" for part in ("first conv", "stem", "blocks")),
                          f"{macs['head']:.4f}", "blocks" if model.blocks else "all", model.gsops,
                          f"{100 * model.gsops / counted / levels:.1f}"))
        once, repeated = (field_mj(macs["first conv"] * 1e9 * times, model.gsops * 1e9)
                          for times in (1, program.time_steps))
        left = (model.mj - once) / FLOAT32_ADD_PJ
        energy_rows.append((
            model.model, model.side, f"{model.mj:.2f}",
            *(f"{mj:.2f}" for mj in (FLOAT32_ADD_PJ * model.gsops,
                                     FLOAT32_MAC_PJ * macs["first conv"],
                                     FLOAT32_MAC_PJ * macs["first conv"] * program.time_steps)),
            f"{once / model.mj:.3f}", f"{repeated / model.mj:.3f}",
            *((f"{left:.2f}", f"{100 * left / macs['stem'] / levels:.1f}") if model.blocks
              else (None, None))))
    print(table(PARAMETERS, counts))
    print("\nDense G MACs (all T steps, the first convolution once), and the mean firing rate that "
          "the\npublished SOPs imply:\n")
    print(table(MACS, macs_rows))
    print("\nmJ by the field's formula, 0.9 pJ x published SOPs + 4.6 pJ x first convolution "
          "(once, or T\ntimes), and what that leaves of the published mJ (once), as spikes that "
          "the stem adds:\n")
    print(table(ENERGY, energy_rows))


if __name__ == "__main__":
    main()
