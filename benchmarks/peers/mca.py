"""Cycles that llvm-mca predicts for Cortex-A76 and M55: an estimate, from what ran alone.

Each basic block that ran, as a loop of its own, times how often it ran. Loads hit the first cache,
branches are guessed right, and blocks do not overlap. neoverse-n1 is the core of the A76; LLVM's
own cortex-a76 entry has an older core's model. Its model of the M55 knows nothing of the
instructions that begin and end loops, which count as free.
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
from peers.own import MCU, address, arguments, argv, arm_program, mcu_program

_OLDEST = 17  # LLVM with a model of its own for neoverse-n1
_COVERED = 0.995  # of all instructions; the rest gets the same rate
_SHORT, _LONG = 100, 200  # iterations: the difference leaves out how the loop starts
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]+ <[^>]*>")
_LEFT_OUT = re.compile(r"svc|bkpt|\.|(dls|wls|dlstp|wlstp|le|letp|lctp|vpst[te]*)\b")
# Blocks end within what a VPT instruction predicates: without predicates, at the same cost.
_PREDICATED = re.compile(
    r"^(v(?:orr|and|bic|eor|mov|add|sub|hadd|cmp|shl|shr|ldr[bhw]|str[bhw]))[te]\b")
_VPT = re.compile(r"^vpt[te]*\b")


@dataclass(frozen=True)
class Core:
    """What reads a processor's programs, and the words that tell llvm-mca of it."""

    objdump: tuple[str, ...]
    model: tuple[str, ...]


A76 = Core(("aarch64-linux-gnu-objdump",),
           ("-mtriple=aarch64", "-mcpu=neoverse-n1", "-mattr=+dotprod"))
M55 = Core(("arm-none-eabi-objdump", "-m", "armv8.1-m.main"),
           ("-mtriple=thumbv8.1m.main-none-eabi", "-mcpu=cortex-m55"))


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


def cycles(kernel: str, layer: Layer, firing: Firing, cpu: str = "cortex-a76") -> float:
    """Predicted for one run of the layer by `ours` or `dense`; needs `tool`; cached."""
    words = arguments(kernel, layer, firing)
    if cpu in MCU:
        return predicted(mcu_program(cpu, kernel), words, cpu)
    return predicted(arm_program(cpu, kernel, "-DMARKS"), words)


def predicted(program: Path, words: list[str], cpu: str = "cortex-a76") -> float:
    """Cycles between the first two marks of a program, for aarch64 built with -DMARKS; cached."""
    key = hashlib.sha256("\0".join([program.parent.name, tool(), *words]).encode()).hexdigest()
    cached = cache_dir("kernel-estimates") / f"{key[:24]}.json"
    if not cached.exists():
        cached.write_text(json.dumps(_estimate(program, words, cpu)))
    return json.loads(cached.read_text())


def _estimate(program: Path, words: list[str], cpu: str) -> float:
    edges = "".join(f",{edge}={address(program, f'bench_{edge}'):#x}" for edge in ("begin", "end"))
    return sum(block.cycles for block in blocks(program, words, edges if cpu in MCU else "", cpu))


@dataclass(frozen=True)
class Block:
    """A basic block that ran: all its executions together."""

    address: int
    instructions: int
    cycles: float


def blocks(program: Path, words: list[str], options: str = "",
           cpu: str = "cortex-a76") -> list[Block]:
    """What ran between the marks, with predicted cycles; `options` go to count_marks.c."""
    core = M55 if cpu in MCU else A76
    ran = sorted(_ran(program, words, options, cpu), key=lambda b: -b[1] * b[2])
    total = sum(count * times for _, count, times in ran)
    code, kept, covered = _disassembly(program, core), [], 0
    number = {at: i for i, at in enumerate(code)}
    lines = list(code.values())
    for begin, count, times in ran:
        if covered >= _COVERED * total:
            break
        kept.append(lines[number[begin]:number[begin] + count])
        covered += count * times
    known = _analysed(kept, core) + [None] * (len(ran) - len(kept))
    told = [(c * times, count * times)
            for c, (_, count, times) in zip(known, ran, strict=True) if c is not None]
    rate = sum(c for c, _ in told) / sum(n for _, n in told)
    return [Block(begin, count * times, rate * count * times if c is None else c * times)
            for (begin, count, times), c in zip(ran, known, strict=True)]


def _ran(program: Path, words: list[str], options: str, cpu: str) -> list[tuple[int, int, int]]:
    """(address, instructions, executions) of what ran."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "blocks")
        flags = ["-plugin", f"{plugin()},out={out},blocks=yes{options}"]
        subprocess.run(argv(cpu, program, words, flags), check=True, capture_output=True)
        lines = [line.split() for line in out.read_text().splitlines()]
    return [(int(line[1], 16), int(line[2]), int(line[3])) for line in lines
            if line[0] == "block"]


def _disassembly(program: Path, core: Core) -> dict[int, str]:
    """Address -> instruction, as an assembler takes it, in their order."""
    listing = subprocess.run(
        [need(core.objdump[0]), *core.objdump[1:], "-d", "--no-show-raw-insn", str(program)],
        capture_output=True, text=True, check=True).stdout
    code = {}
    for line in listing.splitlines():
        if match := re.match(r"\s+([0-9a-f]+):\s+(.*)", line):
            text = re.split("//|@|;", match[2])[0].strip()
            code[int(match[1], 16)] = _plain(_ADDRESS.sub("here", text))
    return code


def _plain(text: str) -> str:
    """An instruction as LLVM takes it wherever it stands."""
    text = _VPT.sub("vcmp", _PREDICATED.sub(r"\1", text))
    return re.sub(r"^(\w+)\.[wn]\b", r"\1", text)


def _analysed(blocks: list[list[str]], core: Core) -> list[float | None]:
    """Cycles of one pass through each block, run as a loop; None where llvm-mca fails on it."""
    try:
        return _cycles([[line for line in block if not _LEFT_OUT.match(line)]
                        for block in blocks], core)
    except subprocess.CalledProcessError:
        half = len(blocks) // 2
        return _analysed(blocks[:half], core) + _analysed(blocks[half:], core) if half else [None]


def _cycles(blocks: list[list[str]], core: Core) -> list[float]:
    text = "here:\n"
    for number, block in enumerate(blocks):
        text += "\n".join([f"# LLVM-MCA-BEGIN b{number}", *block, f"# LLVM-MCA-END b{number}", ""])
    return [cycles for _, cycles in regions(text, core).values()]


def regions(text: str, core: Core = A76) -> dict[str, tuple[float, float]]:
    """Name -> instructions and cycles of one pass through what assembly marks as regions."""
    said = [subprocess.run([tool(), *core.model, f"-iterations={n}"], input=text,
                           capture_output=True, text=True, check=True).stdout
            for n in (_SHORT, _LONG)]
    names = re.findall(r"Code Region(?: - (\S+))?", said[0])
    counts = [int(n) / _SHORT for n in re.findall(r"^Instructions:\s+(\d+)", said[0], re.M)]
    short, long = ([int(n) for n in re.findall(r"Total Cycles:\s+(\d+)", s)] for s in said)
    return {name: (count, (b - a) / (_LONG - _SHORT))
            for name, count, a, b in zip(names, counts, short, long, strict=True)}
