"""What an amount of work costs on a core: fits edgesvit/cost/prices.toml to counted instructions.

    python benchmarks/instruction_prices.py [RUN ...] [--write] [--cores NAME,...] [--settings N]

Every model (the shipped ones and the run folders given) runs on the emulated cores as it is, with
fewer time steps, and in N settings drawn at random (channels, widths, tokens, time steps). As it
is, it is also cut short behind each operator in turn, which tells what each takes. A price a kind
of work follows by least squares of the relative errors, none below zero; what too few programs have
is drawn to what the kernels' inner loops take by count of the code. Prints how far the prediction
of each program is off, and how far when its model took no part in the fit. With --cores, --write
leaves the tables of the others as they are.
"""

import argparse
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from edgesvit.boards.counted import counted
from edgesvit.cli.options import dataset
from edgesvit.compress import channels, precision, tokens
from edgesvit.compress.setting import WHOLE, Setting, apply
from edgesvit.cost.instructions import NAMES, amounts
from edgesvit.cost.operations import work
from edgesvit.data.dataset import Dataset
from edgesvit.errors import DoesNotFit, UsageError
from edgesvit.evaluate import program_of
from edgesvit.models.config import takes_events
from edgesvit.program import interpret
from edgesvit.program.ops import Check, Kind, Program
from edgesvit.report.table import table
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.targets import load

CORES = {"cortex-a76": "qemu-user-a76", "cortex-m4": "qemu-mps2-an386",
         "cortex-m7": "qemu-mps2-an500", "cortex-m55": "qemu-mps3-an547"}
PRICES = Path(__file__).parents[1] / "edgesvit" / "cost" / "prices.toml"
IMAGES = 2
RATES = (0, 0.25, 0.5, 0.75)  # of channels that a random setting removes
SHARES = (1.0, 0.75, 0.5)  # of tokens that it keeps
# Instructions of inner loops by count of the code: vectors of 128 bits on the A76, pairs of 16 bits
# on the M4 and M7, 128-bit vectors in two beats on the M55.
LOOPS = {
    "sorted inputs": (1.5, 10, 8), "window inputs": (0.5, 10, 8), "windows": (60, 100, 100),
    "lists": (4, 2, 2), "buckets": (4, 10, 5), "single buckets": (4, 10, 5), "rows": (4, 5, 5),
    "row tiles, 8 bits": (3, 12, 6), "row tiles, 1 field": (2, 25, 9),
    "row tiles, 2 fields": (2, 45, 14), "row tiles, 3 fields": (2, 70, 20),
    "step tiles": (1, 5, 3), "odd row tiles": (1, 20, 5), "level rows": (4, 5, 5),
    "level buckets": (4, 10, 5), "level tiles": (4, 24, 8), "narrow level tiles": (4, 40, 12),
    "pixel products": (0.2, 2.5, 1), "membrane products": (0.25, 2.5, 1.5),
    "narrow membrane products": (0.25, 10, 4), "window products": (0.5, 6, 6),
    "narrow window products": (0.5, 10, 10), "neurons": (0.8, 8, 4), "currents": (1, 8, 4),
    "encoded": (1, 8, 4), "odd channels": (1, 8, 4), "attention": (0.2, 2, 2),
    "attended levels": (0.2, 2, 2), "attended values": (0.5, 2, 2), "fired values": (0.5, 8, 4),
    "pooled values": (0.2, 2, 2), "scored values": (6, 12, 8), "summed values": (1, 1, 1),
    "values": (0.2, 8, 6), "operators": (2000, 2000, 2000)}
KIND = {"cortex-a76": 0, "cortex-m4": 1, "cortex-m7": 1, "cortex-m55": 2}  # column of LOOPS
PULL = 0.02  # a price at twice its loop's count weighs as much as a program that is 2 % off
OPERATOR = 0.35  # weight of one operator beside that of a program
FLOOR = 0.02  # an operator counts for at least this share of its program


class Case(NamedTuple):
    """A program to count, with the run folder that it came from."""

    model: str
    setting: str
    program: Program
    data: Dataset


def cases(folder: RunFolder, count: int) -> list[Case]:
    """A model's programs: as it is, with fewer time steps, and in `count` random settings."""
    data, card, weights = dataset(None, folder), folder.card(), folder.weights()
    steps = getattr(card.config, "time_steps", 1)
    settings = {"whole": WHOLE, **{f"T={t}": Setting(time_steps=t) for t in (1, 2) if t < steps}}
    random = np.random.default_rng(len(weights))
    settings |= {f"random {i}": drawn(card.config, weights, random) for i in range(count)}
    found = []
    for name, setting in settings.items():
        try:
            program = program_of(*apply(setting, card, weights), data)
        except UsageError:  # event frames
            continue
        found.append(Case(folder.path.name, name, program, data))
    return found


def drawn(config, weights, random: np.random.Generator) -> Setting:
    """Channels of all groups, widths of all layers, tokens of all blocks, time steps."""
    kept = {group.name: channels.kept_count(group.size, random.choice(RATES),
                                            channels.lane_step(group, 8))
            for group in channels.groups(config)}
    names = list(precision.layers(config, weights))
    pair = random.integers(2, 9, size=2)  # a width and the other, so that some stand out
    bits = {name: int(random.choice(pair)) for name in names[1:-1]}
    blocks = () if takes_events(config) else tokens.shares_of(config)
    shares = {block: float(random.choice(SHARES)) for block in blocks}
    steps = getattr(config, "time_steps", None)
    return Setting(kept=kept, bits=bits, tokens=shares,
                   time_steps=steps and int(random.integers(1, steps + 1)))


def begun(case: Case) -> Iterator[Case]:
    """The case cut short behind each operator, with a classifier on what that one gives."""
    head, image = case.program.ops[-1], case.data.images[0]
    for end, op in enumerate(case.program.ops[:-1], 1):
        out = case.program.value(op.output)
        if out.kind not in (Kind.SPIKES, Kind.LEVELS, Kind.MEMBRANE):
            continue
        weight = np.ones((out.shape[2], head.weight.shape[1]), np.int8)
        ops = (*case.program.ops[:end],
               replace(head, input=op.output, weight=weight, shift=0, stream=""))
        made = {case.program.input.name, *(op.output for op in ops)}
        values = tuple(value for value in case.program.values if value.name in made)
        program = replace(case.program, ops=ops, values=values, check=None)
        program = replace(program, check=Check(image, interpret.run(program, image)))
        yield case._replace(setting=f"to {op.output}", program=program)


def taken(case: Case, core: str) -> float | None:
    """Median instructions an image; None where the program does not fit."""
    try:
        return counted(case.program, load(CORES[core]), case.data.images[:IMAGES])
    except DoesNotFit:
        return None


class Row(NamedTuple):
    """What was counted: `weight` is that of its relative error; operators have no `setting`."""

    model: str
    setting: str
    amounts: np.ndarray
    count: float
    weight: float


def rows_of(case: Case, core: str, parts: bool) -> list[Row]:
    """The program, and with `parts` each of its operators: what it adds to those before it."""
    done = {row.output: row for row in work(case.program, case.data.images[:IMAGES])}
    if (whole := taken(case, core)) is None:
        return []
    found = [Row(case.model, case.setting, amounts(case.program, done), whole, 1 / whole)]
    before = None
    for part in begun(case) if parts else ():
        now, took = amounts(part.program, done), taken(part, core)
        # Where a classifier of a large image takes more than all the rest, it tells nothing.
        if before and took < whole and took > before[1]:
            more = took - before[1]
            found.append(Row(case.model, "", now - before[0], more,
                             OPERATOR / max(more, FLOOR * whole)))
        before = now, took
    return found


def fitted(rows: list[Row], core: str) -> np.ndarray:
    """Prices, none negative, with the least squares of relative errors and departures."""
    pull = PULL * np.diag([1 / LOOPS[name][KIND[core]] for name in NAMES])
    weighed = np.array([row.amounts * row.weight for row in rows])
    counts = [row.count * row.weight for row in rows]
    return nnls(np.concatenate([weighed, pull]), np.append(counts, PULL * np.ones(len(pull))))[0]


def judged(core: str, every: list[Case]) -> tuple[dict[str, float], list[tuple]]:
    """A core's prices, and a line a program: percent off, and off when its model was left out."""
    rows = [row for case in every for row in rows_of(case, core, case.setting == "whole")]
    prices, lines = fitted(rows, core), []
    for row in (row for row in rows if row.setting):
        blind = fitted([other for other in rows if other.model != row.model], core)
        lines.append((core, row.model, row.setting, row.count, *(
            100 * (row.amounts @ used / row.count - 1) for used in (prices, blind))))
    return dict(zip(NAMES, prices.tolist(), strict=True)), lines


def written(tables: dict[str, dict[str, float]]) -> str:
    """The tables as TOML."""
    parts = ["# Instructions for one unit of work: benchmarks/instruction_prices.py"]
    for core, prices in tables.items():
        parts += ["", f"[{core}]", *(f'"{name}" = {price:.4g}' for name, price in prices.items())]
    return "\n".join(parts) + "\n"


def summary(core: str, lines: list[tuple]) -> str:
    errors = np.abs([line[4] for line in lines])
    return (f"{core}: {len(lines)} programs, off by {np.median(errors):.1f} % (median), "
            f"{np.mean(errors <= 15):.0%} within 15 %, at most {errors.max():.0f} %; whole models "
            f"at most {max(abs(line[4]) for line in lines if line[2] == 'whole'):.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="replace the tables of the package")
    parser.add_argument("--cores", default=",".join(CORES))
    parser.add_argument("--settings", type=int, default=5, help="random ones of each model")
    options = parser.parse_args()
    folders = [*sorted(shipped_model("").glob("*/")), *options.runs]
    every = [case for folder in folders for case in cases(RunFolder(folder), options.settings)]
    tables, told = tomllib.loads(PRICES.read_text()), []
    for core in options.cores.split(","):
        tables[core], lines = judged(core, every)
        print(table(("core", "model", "setting", "counted", "fitted", "left out"),
                    [(*line[:3], f"{line[3]:,.0f}", f"{line[4]:+.0f} %", f"{line[5]:+.0f} %")
                     for line in lines]))
        told.append(summary(core, lines))
        print(told[-1], flush=True)
        if options.write:  # at once: the next core takes minutes
            PRICES.write_text(written(tables))
    print("\n".join([written(tables), *told]))


if __name__ == "__main__":
    main()
