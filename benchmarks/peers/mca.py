"""Cycles that llvm-mca predicts for Cortex-A76: an estimate, from what ran and nothing else.

Each basic block that ran, as a loop of its own, times how often it ran. Loads hit the first cache,
branches are guessed right, and blocks do not overlap. neoverse-n1 is the core of the A76; LLVM's
own cortex-a76 entry has an older core's model.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgesvit.lower.compile import need
from edgesvit.resources import cache_dir
from peers.arm_counts import plugin
from peers.layers import Firing, Layer
from peers.own import arguments, arm_program

_OLDEST = 17  # LLVM with a model of its own for neoverse-n1
_COVERED = 0.995  # of all instructions; the rest gets the same rate
_SHORT, _LONG = 100, 200  # iterations: the difference leaves out how the loop starts
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]+ <[^>]*>")


def tool() -> str | None:
    """A new enough llvm-mca, or None."""
    for name in ("llvm-mca", *(f"llvm-mca-{n}" for n in range(25, _OLDEST - 1, -1))):
        path = shutil.which(name)
        if path:
            said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"version (\d+)", said)
            if version and int(version[1]) >= _OLDEST:
                return path
    return None


def cycles(kernel: str, layer: Layer, firing: Firing) -> float:
    """Predicted for one run of the layer by `ours` or `dense`; needs `tool`; cached."""
    return predicted(arm_program("cortex-a76", kernel, "-DMARKS"),
                     arguments(kernel, layer, firing))


def predicted(program: Path, words: list[str]) -> float:
    """Cycles between the first two marks of a program built with -DMARKS; cached."""
    key = hashlib.sha256("\0".join([program.parent.name, tool(), *words]).encode()).hexdigest()
    cached = cache_dir("kernel-estimates") / f"{key[:24]}.json"
    if not cached.exists():
        cached.write_text(json.dumps(_estimate(program, words)))
    return json.loads(cached.read_text())


def _estimate(program: Path, words: list[str]) -> float:
    return sum(block.cycles for block in blocks(program, words))


@dataclass(frozen=True)
class Block:
    """A basic block that ran: all its executions together."""

    address: int
    instructions: int
    cycles: float


def blocks(program: Path, words: list[str], options: str = "") -> list[Block]:
    """What ran between the marks, with predicted cycles; `options` go to count_marks.c."""
    ran = sorted(_ran(program, words, options), key=lambda b: -b[1] * b[2])
    total = sum(count * times for _, count, times in ran)
    code, kept, covered = _disassembly(program), [], 0
    for address, count, times in ran:
        if covered >= _COVERED * total:
            break
        kept.append([code[address + 4 * i] for i in range(count)])
        covered += count * times
    cycles = [c * times for c, (_, _, times) in zip(_analysed(kept), ran, strict=False)]
    rate = sum(cycles) / covered
    cycles += [rate * count * times for _, count, times in ran[len(cycles):]]
    return [Block(address, count * times, c)
            for (address, count, times), c in zip(ran, cycles, strict=True)]


def _ran(program: Path, words: list[str], options: str) -> list[tuple[int, int, int]]:
    """(address, instructions, executions) of what ran."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "blocks")
        subprocess.run([need("qemu-aarch64"), "-cpu", "cortex-a76", "-plugin",
                        f"{plugin()},out={out},blocks=yes{options}", str(program), *words],
                       check=True, capture_output=True)
        lines = [line.split() for line in out.read_text().splitlines()]
    return [(int(line[1], 16), int(line[2]), int(line[3])) for line in lines
            if line[0] == "block"]


def _disassembly(program: Path) -> dict[int, str]:
    """Address -> instruction, as an assembler takes it."""
    listing = subprocess.run(
        [need("aarch64-linux-gnu-objdump"), "-d", "--no-show-raw-insn", str(program)],
        capture_output=True, text=True, check=True).stdout
    code = {}
    for line in listing.splitlines():
        if match := re.match(r"\s+([0-9a-f]+):\s+(.*)", line):
            text = match[2].split("//")[0].strip()
            code[int(match[1], 16)] = _ADDRESS.sub("here", text)
    return code


def _analysed(blocks: list[list[str]]) -> list[float]:
    """Cycles of one pass through each block, run as a loop."""
    text, blocks = "here:\n", [[line for line in block if not line.startswith("svc")]
                               for block in blocks]
    for number, block in enumerate(blocks):
        text += "\n".join([f"# LLVM-MCA-BEGIN b{number}", *block, f"# LLVM-MCA-END b{number}", ""])
    totals = []
    for iterations in (_SHORT, _LONG):
        said = subprocess.run(
            [tool(), "-mtriple=aarch64", "-mcpu=neoverse-n1", "-mattr=+dotprod",
             f"-iterations={iterations}"], input=text, capture_output=True, text=True, check=True)
        totals.append([int(n) for n in re.findall(r"Total Cycles:\s+(\d+)", said.stdout)])
    return [(long - short) / (_LONG - _SHORT) for short, long in zip(*totals, strict=True)]
