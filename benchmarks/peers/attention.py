"""One head of spiking self-attention: our kernel beside dense products of bytes, on Cortex-A76."""

from dataclasses import dataclass
from pathlib import Path

from peers import mca, own
from peers.layers import Firing

TOKENS, DIM, STEPS = 196, 64, 4
CPU = "cortex-a76"
PROGRAMS = {"ours": "ours", "(QK^T)V": "quadratic", "Q(K^T V)": "linear"}
SILENT = Firing(0, "lif")


@dataclass(frozen=True)
class Cost:
    """Of one head in one step; cycles where llvm-mca predicts them."""

    instructions: float
    cycles: float | None


def cost(program: str, firing: Firing) -> Cost:
    """Of one of PROGRAMS, whose result has been compared with the definition."""
    count = own.counted(CPU, _built(program), _words(program, firing))[0]
    cycles = mca.predicted(_built(program, "-DMARKS"), _words(program, firing)) \
        if mca.tool() else None
    return Cost(count / STEPS, cycles and cycles / STEPS)


def _built(program: str, *defines: str) -> Path:
    return own.arm_program(CPU, "ours" if program == "ours" else "dense", *defines,
                           main="attention_main.c")


def _words(program: str, firing: Firing) -> list[str]:
    return [PROGRAMS[program], *map(str, (TOKENS, DIM, STEPS, firing.rate,
                                          own.SOURCES.index(firing.source), 2))]
