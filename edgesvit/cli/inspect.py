"""`edgesvit inspect`: what a model or an .esv file consists of, and what it does for an image."""

from pathlib import Path

import click
import numpy as np

from edgesvit.cli import options
from edgesvit.cli.output import note, print_json
from edgesvit.cost.energy import bit_aware_mj, field_mj, traffic_mj
from edgesvit.cost.memory import parameter_bytes, parameters
from edgesvit.cost.operations import Work, work
from edgesvit.cost.streams import Ends, ends, streams
from edgesvit.disk import write_atomic
from edgesvit.errors import UsageError
from edgesvit.evaluate import program_of
from edgesvit.program import file
from edgesvit.program.ops import Kind, Op, Program, SpikeConv
from edgesvit.program.plan import plan
from edgesvit.report.plot import work_svg
from edgesvit.report.table import si, table

# Of the table; the names in JSON are the keys of `_row`.
HEADER = ("operator", "output", "H x W x C", "stream", "params", "bytes", "int16", "MACs", "mult",
          "SOPs", "rate %", "U %", "field J", "bits J")


@click.command(epilog="Example: edgesvit inspect --model runs/mine --images 100 --plot work.svg")
@click.argument("program", required=False, type=click.Path(path_type=Path))
@options.model
@options.data
@click.option("--images", default=20, show_default=True, type=click.IntRange(1),
              help="Held-out images to count the work of.")
@click.option("--plot", metavar="FILE.svg", type=click.Path(path_type=Path),
              help="Also draw the work and the firing rates.")
@options.as_json
def inspect(program: Path | None, model: str | None, data: str | None, images: int,
            plot: Path | None, as_json: bool) -> None:
    """List the operators of PROGRAM (an .esv file) or of a model's program, with their work.

    MACs are those of dense execution over all T steps, mult those that really multiply; SOPs are
    the accumulates that the spikes of the images cause. U is the share of input neurons that fire
    at all. Operators with the same stream, s0, s1, ..., read (s0>) or write (>s0) the same
    channels. Energy is an estimate from 45 nm arithmetic: float32 as the papers count it, and with
    the widths that the program has. docs/inspect.md says more. For an .esv file the images are its
    own self-check image, unless --data is given.
    """
    if plot and plot.suffix != ".svg":
        raise UsageError(f"--plot {plot}: pictures are SVG only", "choose a name that ends in .svg")
    if program is None:
        source = options.model_folder(model)
        held_out = options.dataset(data, source)
        loaded, shown = program_of(source.card(), source.weights(), held_out), held_out.images
    else:
        loaded = file.read(program)
        shown = options.load(data, "test").images if data else _own_image(loaded)
    if shown.shape[1:] != _image_shape(loaded):
        raise UsageError(f"{data} has images of {shown.shape[1:]}, the program takes "
                         f"{_image_shape(loaded)}", "choose --data to match the program")
    shown = shown[:images]
    done = work(loaded, shown)
    rows = [_row(loaded, *parts) for parts in zip(loaded.ops, done, ends(loaded), strict=True)]
    about = {"time_steps": loaded.time_steps, "file_bytes": len(file.to_bytes(loaded)),
             "arena_bytes": plan(loaded).arena_bytes, "images": len(shown)}
    if plot:
        name = Path(program or model or options.DEFAULT_MODEL).name
        title = f"{name}, T = {loaded.time_steps}: the work for an image, mean of {len(shown)}"
        write_atomic({plot: work_svg(title, done).encode()})
        note(f"the picture is in {plot}")
    if as_json:
        print_json({"command": "inspect", **about, "label": "estimated", "operators": rows,
                    "total": _total(rows), "streams": _streams(loaded)})
        return
    click.echo(table(HEADER, [*map(_readable, rows), _readable(_total(rows))]))
    for label, channels in _streams(loaded).items():
        click.echo(f"{label}: {channels} channels, to be pruned together")
    click.echo(f"T = {loaded.time_steps}, file {about['file_bytes']:,} bytes, arena "
               f"{about['arena_bytes']:,} bytes, images: mean of {len(shown)}, energy estimated; "
               f"{si(_total(rows)['traffic_mj'] / 1000)}J to read all constants once from DRAM")


def _image_shape(program: Program) -> tuple[int, ...]:
    """[H, W, C] of an image, [T, H, W, C] of event frames."""
    frames = program.input.kind == Kind.LEVELS
    return (program.time_steps, *program.input.shape) if frames else program.input.shape


def _own_image(program: Program) -> np.ndarray:
    image = program.check.image if program.check else np.zeros(_image_shape(program), np.uint8)
    return image[None]


def _streams(program: Program) -> dict[str, int]:
    """The channels of every stream."""
    return {label: program.value(name).shape[2] for name, label in streams(program).items()}


def _row(program: Program, op: Op, done: Work, stream: Ends) -> dict:
    return {
        "operator": type(op).__name__, "output": op.output,
        "shape": program.value(op.output).shape,
        "reads_stream": stream.reads, "writes_stream": stream.writes,
        "parameters": parameters(op), "bytes": parameter_bytes(op),
        "int16_channels": int(op.certified.sum()) if isinstance(op, SpikeConv) else None,
        "macs": done.macs, "multiplies": done.multiplies, "rescales": done.rescales,
        "sops": done.sops, "rate": done.rate, "union": done.union,
        "field_mj": field_mj(done.multiplies, done.sops),
        "bit_aware_mj": bit_aware_mj(done.multiplies, done.sops_int16, done.sops_int32,
                                     done.operand_bits, done.rescales),
        "traffic_mj": traffic_mj(parameter_bytes(op)),
    }


def _total(rows: list[dict]) -> dict:
    """The sums of what can be added."""
    return {name: sum(row[name] for row in rows)
            for name in ("parameters", "bytes", "macs", "multiplies", "rescales", "sops",
                         "field_mj", "bit_aware_mj", "traffic_mj")}


def _readable(row: dict) -> tuple:
    """A row or the total as the cells of HEADER; what an operator does not have is a dash."""
    reads, writes = row.get("reads_stream"), row.get("writes_stream")
    stream = f"{reads}>{writes}" if reads or writes else ""
    # No spikes were added because none came (0), or because none can come (a dash).
    idle = "rate" in row and row["rate"] is None
    counts = [si(round(row[name])) if row[name] or (name == "sops" and not idle) else None
              for name in ("macs", "multiplies", "sops")]
    shares = [None if row.get(name) is None else f"{100 * row[name]:.1f}"
              for name in ("rate", "union")]
    joules = [si(row[name] / 1000) if row[name] else None for name in ("field_mj", "bit_aware_mj")]
    return (row.get("operator", "all"), row.get("output", ""),
            "x".join(map(str, row.get("shape", ()))), stream,
            *(si(row[name]) if row[name] else None for name in ("parameters", "bytes")),
            row.get("int16_channels"), *counts, *shares, *joules)
