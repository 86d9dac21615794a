"""`edgesvit inspect`: what a model or an .esv file consists of, and what it does for an image."""

from pathlib import Path

import click
import numpy as np

from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.cost.energy import bit_aware_mj, field_mj
from edgesvit.cost.operations import Work, work
from edgesvit.evaluate import program_of
from edgesvit.program import file
from edgesvit.program.ops import Classify, EncodeConv, Op, Program, SpikeConv
from edgesvit.program.plan import plan
from edgesvit.report.table import table

COLUMNS = ("operator", "output", "shape", "weight_bytes", "int16_channels", "macs", "sops",
           "rate", "union", "field_mj", "bit_aware_mj")
HEADER = ("operator", "output", "H x W x C", "weight bytes", "int16 channels", "dense MACs",
          "SOPs", "rate %", "U %", "field nJ", "bit-aware nJ")


@click.command(epilog="Example: edgesvit inspect --model runs/mine --images 100")
@click.argument("program", required=False, type=click.Path(path_type=Path))
@options.model
@options.data
@click.option("--images", default=20, show_default=True, type=click.IntRange(1),
              help="Held-out images to count the work of.")
@options.as_json
def inspect(program: Path | None, model: str | None, data: str | None, images: int,
            as_json: bool) -> None:
    """List the operators of PROGRAM (an .esv file) or of a model's program, with their work.

    MACs are those of dense execution over all T steps; SOPs are the accumulates that the spikes of
    the images cause. U is the share of input neurons that fire at all. Energy is an estimate from
    45 nm arithmetic: float32 as the papers count it, and with the widths that the program has.
    For an .esv file the images are its own self-check image, unless --data is given.
    """
    if program is None:
        source = options.model_folder(model)
        held_out = options.dataset(data, source)
        loaded, shown = program_of(source.card(), source.weights(), held_out), held_out.images
    else:
        loaded = file.read(program)
        shown = options.load(data, "test").images if data else _own_image(loaded)
    shown = shown[:images]
    rows = [_row(loaded, op, done)
            for op, done in zip(loaded.ops, work(loaded, shown), strict=True)]
    size, arena = len(file.to_bytes(loaded)), plan(loaded).arena_bytes
    if as_json:
        print_json({"command": "inspect", "time_steps": loaded.time_steps, "file_bytes": size,
                    "arena_bytes": arena, "images": len(shown), "label": "estimated",
                    "operators": [dict(zip(COLUMNS, row, strict=True)) for row in rows]})
        return
    click.echo(table(HEADER, [_readable(row) for row in [*rows, _total(rows)]]))
    click.echo(f"T = {loaded.time_steps}, file {size:,} bytes, arena {arena:,} bytes, "
               f"{len(shown)} images, energy estimated")


def _own_image(program: Program) -> np.ndarray:
    image = program.check.image if program.check else np.zeros(program.input.shape, np.uint8)
    return image[None]


def _row(program: Program, op: Op, done: Work) -> tuple:
    weight = op.weight.size if isinstance(op, EncodeConv | SpikeConv | Classify) else None
    certified = int(op.certified.sum()) if isinstance(op, SpikeConv) else None
    # Only what has no spikes to add really multiplies.
    multiplied = done.macs if done.rate is None else 0
    shape = " x ".join(map(str, program.value(op.output).shape))
    return (type(op).__name__, op.output, shape, weight, certified, done.macs, done.sops,
            done.rate, done.union, field_mj(multiplied, done.sops),
            bit_aware_mj(multiplied, done.sops_int16, done.sops_int32))


def _total(rows: list[tuple]) -> tuple:
    def total(column: str) -> float:
        return sum(row[COLUMNS.index(column)] or 0 for row in rows)

    return ("all", "", "", total("weight_bytes"), None, total("macs"), total("sops"), None, None,
            total("field_mj"), total("bit_aware_mj"))


def _readable(row: tuple) -> tuple:
    *names, macs, sops, rate, union, field, aware = row
    percent = [None if share is None else f"{100 * share:.1f}" for share in (rate, union)]
    return (*names, macs, round(sops), *percent, round(field * 1e6), round(aware * 1e6))
