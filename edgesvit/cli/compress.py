"""`edgesvit compress`: a smaller model by a published method, or just small enough for a board."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from edgesvit.cli import options
from edgesvit.cli.output import note, print_json
from edgesvit.disk import write_atomic
from edgesvit.errors import UsageError
from edgesvit.report.table import table
from edgesvit.run_folder import ModelCard, RunFolder

# Those of compress.methods, known without loading it.
METHODS = ("psvit", "primesvt", "qsvit", "tp-spikformer", "fit")


@click.command(epilog="Example: edgesvit compress --method primesvt --max-drop 3 "
               "--save-memory 25")
@click.option("--method", type=click.Choice(METHODS), metavar="NAME",
              help=f"{', '.join(METHODS)}: published methods, and fit, which takes channels, bits, "
              "tokens, depth and time steps together for --target. Without one, all groups of "
              "channels are pruned alike, just enough for --target.")
@click.option("--target", "name", metavar="NAME[,NAME...]", help="See `edgesvit targets`. One "
              "model for several boards is fit's.")
@options.model
@options.data
@options.profile
@click.option("--max-drop", type=click.FloatRange(0), metavar="POINTS",
              help="Accuracy that may be lost on the search images. Default: the method's, 3.")
@click.option("--save-memory", type=click.FloatRange(0, 100), metavar="PERCENT",
              help="Share of the program's bytes to save, 0 for as much as the accuracy allows. "
              "Default: what the method's paper saves.")
@click.option("--groups", metavar="KIND[,KIND...]",
              help="Channel groups that may be pruned, or hidden-only. Default: all but residual "
              "streams, with fit those too; docs/compress.md lists them.")
@click.option("--round-to", default=8, show_default=True, type=click.IntRange(1, 128),
              help="Keep a multiple of this many channels; 1 as the papers do.")
@click.option("--norm", default="folded", show_default=True, type=click.Choice(("folded", "raw")),
              help="What ranks channels: filters with their batch norm folded in, or bare ones.")
@click.option("--budget", default="earned", show_default=True,
              type=click.Choice(("earned", "proportional", "greedy")),
              help="primesvt: what the layers so far may lose: as much of --max-drop as they have "
              "saved of --save-memory, as they hold of the parameters, or all of it.")
@click.option("--grid", default="channel", show_default=True,
              type=click.Choice(("channel", "fixed-round", "fixed-truncate")),
              help="qsvit: a scale per output channel, or the published fixed-point grid.")
@click.option("--drift", default=0.0, show_default=True, type=click.FloatRange(0),
              help="qsvit: do not judge what moves the membranes this many times further than "
              "what is accepted, 1.2 for example; 0 judges all.")
@click.option("--keep-tokens", default="0.6", show_default=True, metavar="SHARE|preset-NAME",
              help="tp-spikformer: tokens kept, the average of the blocks.")
@click.option("--levers", default="channels,bits,tokens,depth,time", show_default=True,
              metavar="NAME[,NAME...]", help="fit: what may be given up.")
@click.option("--save-instructions", default=0.0, type=click.FloatRange(0, 100),
              metavar="PERCENT", help="fit: share of an inference's instructions to save, on the "
              "core of each target.")
@click.option("--rounds", type=click.IntRange(0), default=0, metavar="N",
              help="fit: go to the limits in N equal parts and train behind each, --between epochs "
              "and in the end --fine-tune, with the model's own answers as teacher; --max-drop "
              "then holds for the result alone. Default: one search, no training in it.")
@click.option("--between", type=click.IntRange(1), default=1, show_default=True, metavar="EPOCHS",
              help="fit: of training between rounds.")
@click.option("--lr", "learning_rate", type=click.FloatRange(0, min_open=True), default=2e-3,
              show_default=True, help="Highest learning rate of --fine-tune.")
@click.option("--rate-weight", type=click.FloatRange(0), default=0.0, show_default=True,
              help="fit: train for fewer spikes too, as in `edgesvit train`.")
@click.option("--cluster", default="", metavar="ADDRESS",
              help="Judge settings on the Dask cluster with this scheduler, tcp://HOST:PORT.")
@click.option("--plot", metavar="FILE.svg", type=click.Path(path_type=Path),
              help="fit: also draw accuracy over bytes and instructions.")
@click.option("--search-images", "images", default=2000, show_default=True,
              type=click.IntRange(50), help="Training images that settings are judged on.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of those images.")
@click.option("--recalibrate", "calibration", default=128, show_default=True,
              type=click.IntRange(0), metavar="IMAGES",
              help="Measure batch norms anew where channels, tokens or time steps were taken, and "
              "round narrow weights, by so many other training images; 0: neither, as published.")
@click.option("--run", metavar="FOLDER", help="Where the smaller model goes; repeat the command to "
              "continue a killed search. Default: runs/MODEL-METHOD or runs/MODEL-TARGET.")
@click.option("--fine-tune", "epochs", type=click.IntRange(0), metavar="EPOCHS",
              help="Train the smaller model on. Default: 0, without a method what the profile "
              "says.")
@options.as_json
def compress(method: str | None, name: str | None, model: str | None, data: str | None,
             profile: str | None, run: str | None, epochs: int | None, as_json: bool,
             plot: Path | None, **limits: Any) -> None:
    """Take from a model what it can spare, and write a new run folder.

    Settings are judged by the accuracy of the integer program on images of the training split; the
    report's test accuracies are of the held-out split. An impossible constraint exits with 3, tells
    the best point reached and what binds, and keeps that model.
    """
    _require_training()
    if plot and plot.suffix != ".svg":
        raise UsageError(f"--plot {plot}: pictures are SVG only", "choose a name that ends in .svg")
    source = options.model_folder(model)
    if method is None and name is None:
        raise UsageError("neither --method nor --target is given",
                         "edgesvit compress --method primesvt, or --target nucleo-f446re")
    out = RunFolder(run or f"runs/{source.path.name}-{method or name}")
    if method is None:
        _uniform(name, source, out, data, profile, epochs, as_json)
    else:
        _method(method, name, source, out, data, profile, epochs, as_json, plot, limits)


def _require_training() -> None:
    try:
        import joblib  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"compressing needs {error.name}",
                         "pip install 'edgesvit[train]'") from None


def _method(method: str, name: str | None, source: RunFolder, out: RunFolder, data: str | None,
            profile: str | None, epochs: int | None, as_json: bool, plot: Path | None,
            limits: dict[str, Any]) -> None:
    from edgesvit.compress import prunable
    from edgesvit.compress.methods import Request
    from edgesvit.compress.run import Unmet
    from edgesvit.compress.run import compress as run_method

    targets = tuple(options.target_list((name,))) if name else ()
    groups = tuple(kind for kind in (limits.pop("groups") or "").split(",") if kind)
    request = Request(
        **{key: limits[key] for key in ("max_drop", "save_memory", "round_to", "budget", "grid",
                                        "drift", "keep_tokens", "save_instructions", "images",
                                        "seed", "calibration", "rounds", "between", "rate_weight",
                                        "learning_rate", "cluster")},
        levers=_levers(limits["levers"]),
        groups=prunable.HIDDEN if groups == ("hidden-only",) else groups,
        fold_bn=limits["norm"] == "folded", targets=targets,
        profile=options.profile_for(profile, targets[0]) if targets else None)
    try:
        report = run_method(source, out, method, request, data or "", epochs or 0,
                            " ".join(["edgesvit", *sys.argv[1:]]), note)
    except Unmet as error:  # what may be chosen instead
        _draw(error.report, plot, source)
        if error.report.frontier and not as_json:
            click.echo(_frontier(error.report) + "\n")
        raise
    _draw(report, plot, source)
    if as_json:
        print_json({"command": "compress", "saved_percent": report.saved,
                    **msgspec.to_builtins(report)})
        return
    if report.frontier:
        click.echo(_frontier(report) + "\n")
    click.echo(table(("lever", "part", "before", "after", "rate", "saved bytes", "drop alone"),
                     [(row.lever, row.name, f"{row.before:g}", f"{row.after:g}",
                       f"{row.rate:.3f}", row.saved_bytes, f"{row.drop:.2f}")
                      for row in report.losses]))
    tuned = report.test_accuracy_fine_tuned
    click.echo(f"program: {report.program_bytes_before:,} -> {report.program_bytes:,} bytes, "
               f"{report.saved:.2f} % saved")
    click.echo(f"accuracy on {report.test_images}: {report.test_accuracy_before:.2f} -> "
               f"{report.test_accuracy:.2f} %" + ("" if tuned is None else
               f", {tuned:.2f} % after {report.fine_tuned_epochs} epochs of fine-tuning"
               f" ({report.drop:.2f} points lost)"))
    click.echo(f"{report.settings_judged} settings on {report.search_images}, "
               f"{report.seconds:.0f} s")
    if report.calibration_images:
        click.echo(f"batch norms and rounding calibrated on {report.calibration_images}")
    click.echo(f"run folder: {out.path}")


def _frontier(report: Any) -> str:
    """What there is to choose from, the largest first."""
    targets = list(report.frontier[0].instructions)
    return table(("bytes", *(f"instructions {name}, predicted" for name in targets),
                  "search accuracy", "round", "taken"),
                 [(f"{p.program_bytes:,}", *(f"{p.instructions[name]:,.0f}" for name in targets),
                   f"{p.accuracy:.2f} %", p.round, p.what) for p in report.frontier])


def _draw(report: Any, plot: Path | None, source: RunFolder) -> None:
    if plot and report.frontier:
        write_atomic({plot: _picture(report, source.path.name).encode()})
        note(f"the picture is in {plot}")


def _picture(report: Any, name: str) -> str:
    from edgesvit.report.frontier_plot import frontier_svg

    points = report.frontier
    panels = {"bytes of the program": [(p.program_bytes, p.accuracy) for p in points]}
    for target in points[0].instructions:
        panels[f"instructions on {target}, predicted"] = [
            (p.instructions[target], p.accuracy) for p in points]
    made = [i for i, p in enumerate(points) if "trained" in p.what]
    return frontier_svg(f"{name}: what it may give up, on {report.search_images}", panels, made)


def _levers(text: str) -> tuple[str, ...]:
    from edgesvit.compress.levers import KINDS

    chosen = tuple(name for name in text.split(",") if name)
    if unknown := [name for name in chosen if name not in KINDS]:
        raise UsageError(f"no lever {unknown[0]!r}", f"--levers {','.join(KINDS)}")
    return chosen


def _uniform(name: str, source: RunFolder, out: RunFolder, data: str | None, profile: str | None,
             epochs: int | None, as_json: bool) -> None:
    from edgesvit.compress.uniform import prune_to_fit

    [target] = options.target_list((name,))
    chosen = options.profile_for(profile, target)
    if epochs is not None:
        recipe = msgspec.structs.replace(chosen.recipe, fine_tune_epochs=epochs)
        chosen = msgspec.structs.replace(chosen, recipe=recipe)
    before = source.card()
    after = prune_to_fit(source, out, target, chosen, options.dataset(data, source), note)
    if as_json:
        print_json({"command": "compress", "run": str(out.path), "target": target.name,
                    "card": msgspec.to_builtins(after)})
        return
    click.echo(table(("channels", "before", "after"), _widths(before, after)))
    click.echo(f"run folder: {out.path}")


def _widths(before: ModelCard, after: ModelCard) -> list[tuple[str, int, int]]:
    """Every group that became smaller, channels of all heads."""
    from edgesvit.compress.channels import groups

    return [(old.name, old.channels, new.channels)
            for old, new in zip(groups(before.config), groups(after.config), strict=True)
            if old.channels != new.channels]
