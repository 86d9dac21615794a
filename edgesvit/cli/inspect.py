"""`edgesvit inspect`: what a model or an .esv file consists of."""

from pathlib import Path

import click

from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.evaluate import program_of
from edgesvit.program import file
from edgesvit.program.ops import Classify, EncodeConv, Program, SpikeConv
from edgesvit.program.plan import plan
from edgesvit.report.table import table


@click.command(epilog="Example: edgesvit inspect --model runs/mine")
@click.argument("program", required=False, type=click.Path(path_type=Path))
@options.model
@options.as_json
def inspect(program: Path | None, model: str | None, as_json: bool) -> None:
    """List the operators of PROGRAM (an .esv file) or of a model's program, with their bytes."""
    if program is None:
        source = options.model_folder(model)
        loaded = program_of(source.card(), source.weights(), options.dataset(None, source))
    else:
        loaded = file.read(program)
    rows = _rows(loaded)
    total = len(file.to_bytes(loaded))
    arena = plan(loaded).arena_bytes
    if as_json:
        names = ("operator", "output", "kind", "shape", "weight_bytes", "int16_channels")
        print_json({"command": "inspect", "time_steps": loaded.time_steps, "file_bytes": total,
                    "arena_bytes": arena,
                    "operators": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    click.echo(table(("operator", "output", "kind", "H x W x C", "weight bytes", "int16 channels"),
                     rows))
    click.echo(f"T = {loaded.time_steps}, file {total:,} bytes, arena {arena:,} bytes")


def _rows(program: Program) -> list[tuple]:
    rows = []
    for op in program.ops:
        out = program.value(op.output)
        weight = op.weight.size if isinstance(op, EncodeConv | SpikeConv | Classify) else None
        certified = int(op.certified.sum()) if isinstance(op, SpikeConv) else None
        rows.append((type(op).__name__, out.name, out.kind.name.lower(),
                     " x ".join(map(str, out.shape)), weight, certified))
    return rows
