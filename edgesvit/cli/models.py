"""`edgesvit models`: the published models, and a checkpoint against the official code."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from edgesvit.cli import options
from edgesvit.cli.output import note, print_error, print_json
from edgesvit.errors import ResultDiffers, UsageError
from edgesvit.report.table import table

if TYPE_CHECKING:
    from edgesvit.models.verify import Verification


@click.group(invoke_without_command=True, epilog="Example: edgesvit models list --json")
@options.as_json
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """The published spiking vision transformers; without a command, list them."""
    if find_spec("torch") is None:
        raise UsageError("models need torch, which is not installed",
                         "pip install 'edgesvit[train]'")
    if context.invoked_subcommand is None:
        _print_variants(as_json)


@models.command("list")
@options.as_json
def list_variants(as_json: bool) -> None:
    """List all published models: family, name, parameters, accuracy, data and source."""
    _print_variants(as_json)


@models.command(epilog="Example: edgesvit models verify my-checkpoint")
@click.argument("folder", type=click.Path(path_type=Path))
@options.as_json
def verify(folder: Path, as_json: bool) -> None:
    """Compare a checkpoint with what the official code computed from it.

    FOLDER holds state_dict.safetensors, meta.json ("config": img, num_heads, T and so on, by the
    official names), io.npz (x, logits of one batch, logits_single of one image at a time) and, if
    wanted, spikes.npz (uint8, time first, by the official module path). Exit code 5 if a logit
    differs by more than 1e-4 or one spike differs.
    """
    from edgesvit.models import verify as check  # torch, seconds: not for `--help`

    found = check.verify(folder)
    for line in found.notes:
        note(f"note: {line}")
    if as_json:
        print_json({"command": "models verify", "equal": found.equal,
                    "tolerance": check.TOLERANCE, **msgspec.to_builtins(found)})
    else:
        click.echo(f"{found.recognised}\n{_comparison(found)}")
    if not found.equal:
        raise click.exceptions.Exit(print_error(ResultDiffers(
            f"{folder} does not compute what the official code does",
            f"logits may differ by {check.TOLERANCE:g}, spikes not at all; "
            "check num_heads, img, T and D in meta.json")))


def _comparison(found: "Verification") -> str:
    batch, spikes = found.images, found.spikes_compared
    dead = ", ".join(found.dead_keys) or "none"
    rows = [(f"largest logit difference, batch of {batch}", f"{found.batch_difference:.2e}"),
            ("largest logit difference, single images", f"{found.single_difference:.2e}"),
            (f"spike mismatches of {spikes:,}",
             f"{found.spike_mismatches:,}" if spikes else None),
            ("tensors that nothing uses", len(found.dead_keys))]
    return f"{table(('official code against this one', 'is'), rows)}\nunused: {dead}"


def _print_variants(as_json: bool) -> None:
    from edgesvit.models.families import FAMILIES
    from edgesvit.models.verify import BATCH_LEAK

    rows = [(name, variant) for name, family in FAMILIES.items() for variant in family.VARIANTS]
    if as_json:
        print_json({"command": "models", "models": [
            {"family": name, **msgspec.to_builtins(variant)} for name, variant in rows]})
        return
    click.echo(table(
        ("family", "name", "parameters", "accuracy %", "measured on", "source"),
        [(name, v.name, v.parameters, None if v.accuracy is None else f"{v.accuracy:.2f}",
          v.data, v.source) for name, v in rows]))
    note(f"QKFormer's batch-leaking neuron: {BATCH_LEAK}")
