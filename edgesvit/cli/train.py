"""edgesvit train: train a model, or fine-tune the one in a run folder."""

import os
import shlex
import sys
import time

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edgesvit.cli.output import print_json
from edgesvit.errors import UsageError
from edgesvit.report.table import table

EPILOG = """\b
Examples:
  edgesvit train --data digits --run runs/digits
  edgesvit train --data cifar10:data/cifar-10-batches-bin --run runs/cifar --dim 96 --bf16
  edgesvit train --data digits --run runs/v3 --family sdt_v3 --levels 4
  edgesvit train --data digits --run runs/tuned --from runs/pruned --epochs 5
  edgesvit train --data digits --run runs/int4 --from runs/digits --epochs 5 --weight-bits 4
  torchrun --nproc-per-node 2 -m -- edgesvit train --data digits --run runs/two
"""
FAMILIES = ("spikformer", "sdt_v1", "sdt_v2", "sdt_v3", "qkformer")  # known without torch
SHAPE = ("family", "dim", "depth", "heads", "time_steps", "levels", "mlp_ratio", "stem", "pool",
         "attention_scale")


@click.command(epilog=EPILOG)
@click.option("--data", required=True, help="digits, cifar10:PATH, mnist:PATH, folder:PATH ...")
@click.option("--run", required=True, help="Folder for the model; the same command continues it.")
@click.option("--from", "start", default="", help="Run folder whose model is fine-tuned.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--family", type=click.Choice(FAMILIES), default="spikformer", show_default=True,
              help="What kind of model.")
@click.option("--dim", type=click.IntRange(1), default=64, show_default=True,
              help="Embedding width D; of families with stages, the last one's.")
@click.option("--depth", type=click.IntRange(1), default=2, show_default=True,
              help="Transformer blocks, over all stages.")
@click.option("--heads", type=click.IntRange(1), default=4, show_default=True)
@click.option("--time-steps", type=click.IntRange(1, 8), default=4, show_default=True,
              help="T; not of sdt_v3. With --from: another T than its.")
@click.option("--levels", type=click.IntRange(1, 255), default=4, show_default=True,
              help="Highest level of a neuron; sdt_v3 only.")
@click.option("--mlp-ratio", type=click.IntRange(1), default=4, show_default=True)
@click.option("--stem", help="Four widths a,b,c,D; spikformer and sdt_v1 only. "
              "[default: D/8,D/4,D/2,D]")
@click.option("--pool", help="A 1 halves the image behind a stem stage, as in 0011; "
              "spikformer and sdt_v1 only.")
@click.option("--attention-scale", type=float, default=0.125, show_default=True,
              help="Of spikformer only.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True)
@click.option("--optimizer", type=click.Choice(["adamw", "lamb"]), default="adamw",
              show_default=True, help="LAMB is for large batches.")
@click.option("--lr", "learning_rate", type=click.FloatRange(0, min_open=True), default=2e-3,
              show_default=True, help="Highest learning rate of the cosine.")
@click.option("--weight-decay", type=click.FloatRange(0), default=0.02, show_default=True)
@click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), default=0.05,
              show_default=True)
@click.option("--shift", "shift_px", type=click.IntRange(0), default=1, show_default=True,
              help="Move training images by up to this many pixels.")
@click.option("--flip/--no-flip", default=None, help="Mirror images. [default: photos only]")
@click.option("--cutout", "cutout_px", type=click.IntRange(0), default=0, show_default=True,
              help="Set a square of this many pixels of each image to the mean.")
@click.option("--crop", "crop_share", type=click.FloatRange(0, 1, min_open=True), default=1.0,
              show_default=True, help="Stretch a part of each image, of at least this share of its "
              "area, over all of it.")
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
              help="Keep the average of the weights, for example 0.998.")
@click.option("--weight-bits", type=click.IntRange(2, 8), metavar="2..8",
              help="Train with weights rounded to these bits, as in the program. [default: float]")
@click.option("--teacher", default="", metavar="FOLDER|timm:NAME[@FILE]",
              help="Learn from the answers of this model too.")
@click.option("--distil-temperature", type=click.FloatRange(0), default=2.0, show_default=True,
              help="Softens the teacher's answers; 0: learn its hard label.")
@click.option("--distil-weight", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="The teacher's share of the loss.")
@click.option("--rate-weight", type=click.FloatRange(0), default=0.0, show_default=True,
              help="Add this times the mean firing rate to the loss: fewer spikes, less work.")
@click.option("--bf16", is_flag=True, help="Convolve in bfloat16: faster where the CPU has it.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def train(ctx: click.Context, as_json: bool, **options) -> None:
    """Train a new model, or fine-tune one, and evaluate it on the whole test split."""
    try:
        from edgesvit.architecture import Architecture
        from edgesvit.train import TrainSettings
        from edgesvit.train import train as run_training
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError("training needs torch, which is not installed",
                         "pip install 'edgesvit[train]'") from None
    given = {p.name for p in ctx.command.params
             if ctx.get_parameter_source(p.name) is not ParameterSource.DEFAULT}
    shape = {name: options.pop(name) for name in SHAPE}
    shape["stem"] = _stem(shape["stem"])
    options["weight_bits"] = options["weight_bits"] or 0
    if "start" in given and "time_steps" in given:  # of a model's shape it alone can change
        options["time_steps"] = shape["time_steps"]
    settings = TrainSettings(architecture=_architecture(Architecture, shape, given), **options)
    try:
        with _bar() as show:
            folder = run_training(settings, show, _command_line(ctx))
    except KeyboardInterrupt:
        click.echo("interrupted: the same command continues behind the last whole epoch", err=True)
        sys.exit(130)
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first one answers
        _answer(folder, as_json)


def _architecture(kind: type, shape: dict, given: set[str]):
    """None when fine-tuning, where the shape is the parent's; typed shape options clash there."""
    if "start" not in given:
        return kind(**shape)
    clash = sorted(given & set(SHAPE) - {"time_steps"})
    if clash:
        raise UsageError(f"--{clash[0].replace('_', '-')} cannot change the model of --from",
                         "leave it away, or train a new model without --from")
    return None


def _stem(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise UsageError(f"--stem {text} is not four whole numbers",
                         "for example --stem 16,32,64,64") from None


def _command_line(ctx: click.Context) -> str:
    """The command as a person would type it again: only the options that were given."""
    words = ["edgesvit", "train"]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name)
        if (ctx.get_parameter_source(parameter.name) is ParameterSource.DEFAULT
                or parameter.name == "as_json" or value is False and not parameter.secondary_opts):
            continue
        if parameter.is_flag:
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)


class _bar:
    """A progress bar on stderr; without a terminal a line per epoch and at least one a minute."""

    def __enter__(self):
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[now]}"),
            TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal)
        self.task = self.progress.add_task("train", total=None, epoch="", now="")
        self.progress.start()
        self.said_s = time.monotonic()
        return self.show

    def __exit__(self, *_):
        self.progress.stop()

    def show(self, now) -> None:
        text = (f"loss {now.loss:.3f}  accuracy {now.accuracy:.1%}  "
                f"{now.images_per_s:.0f} images/s")
        self.progress.update(
            self.task, total=now.epochs * now.steps, epoch=f"{now.epoch}/{now.epochs}", now=text,
            completed=(now.epoch - 1) * now.steps + now.step)
        due = now.step == now.steps or time.monotonic() - self.said_s > 60
        if due and not self.console.is_terminal:
            self.said_s = time.monotonic()
            self.console.print(f"epoch {now.epoch}/{now.epochs}  step {now.step}/{now.steps}  "
                               f"{text}", highlight=False, soft_wrap=True)


def _answer(folder, as_json: bool) -> None:
    card = folder.card()
    if as_json:
        print_json({"run": str(folder.path), "data": card.data, "config": card.config,
                    "metrics": card.metrics, "command": card.command})
        return
    columns = {"model": str(folder.path), "shape": _shape_of(card.config),
               "float accuracy": f"{card.metrics['test_accuracy']:.2%}"}
    if "fake_quantized_accuracy" in card.metrics:
        columns[f"with {card.weight_bits}-bit weights"] = (
            f"{card.metrics['fake_quantized_accuracy']:.2%}")
    columns["images"] = round(card.metrics["test_images"])
    click.echo(table(tuple(columns), [tuple(columns.values())]))


def _shape_of(config) -> str:
    import torch

    from edgesvit.models.families import build, name_of

    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(config).parameters())
    steps = (f"{config.levels} levels" if hasattr(config, "levels") else
             f"{config.time_steps} time steps")
    return f"{name_of(config)}, {parameters:,} parameters, {config.heads} heads, {steps}"
