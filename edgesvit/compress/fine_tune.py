"""Training a smaller model on, as its parent was trained."""

import contextlib
from typing import Any

import msgspec

from edgesvit.compress.watch import Watch, quiet
from edgesvit.disk import write_atomic
from edgesvit.errors import UsageError
from edgesvit.models.config import takes_events
from edgesvit.run_folder import RunFolder
from edgesvit.training.settings import TRAIN_FILE, Progress, TrainSettings

LEARNING_RATE = 2e-3
GENTLE = 3e-4  # between rounds: a higher one undoes in an epoch more than pruning did
WARMUP_EPOCHS = 0.25  # a fine-tuning of an epoch or two has no time for more
RECIPE_FILE = "recipe.json"  # of a model that no training wrote
# What of its own training still suits a model that has become smaller.
_RECIPE = ("batch_size", "optimizer", "weight_decay", "label_smoothing", "clip_norm", "shift_px",
           "flip", "cutout_px", "crop_share", "ema", "bf16")


def recipe(parent: RunFolder) -> dict[str, Any]:
    """How `parent` was trained, as settings of a training; nothing where it does not say."""
    for name in (TRAIN_FILE, RECIPE_FILE):
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            known = msgspec.json.decode((parent.path / name).read_bytes(), type=TrainSettings)
            return {name: getattr(known, name) for name in _RECIPE}
    return {}


def keep_recipe(trained: RunFolder, to: RunFolder) -> None:
    """Let the smaller model in `to` be trained on as `trained` was: its train.json goes along."""
    for name in (TRAIN_FILE, RECIPE_FILE):
        if (trained.path / name).exists():
            write_atomic({to.path / RECIPE_FILE: (trained.path / name).read_bytes()})
            return


def taught(start: RunFolder, to: RunFolder, parent: RunFolder, spec: str, epochs: int,
           learning_rate: float, rate_weight: float = 0.0, command: str = "",
           watch: Watch = quiet) -> RunFolder:
    """Train `start` into `to` by the parent's recipe and the parent's answers.

    Goes on where an earlier call was stopped.
    """
    from edgesvit.train import train

    if takes_events(parent.card().config):
        raise UsageError("event frames have no teacher", "leave --rounds away")

    def told(now: Progress) -> None:
        share = (now.epoch - 1 + now.step / now.steps) / now.epochs
        watch(f"training {to.path.parent.name}", share)

    return train(TrainSettings(
        **recipe(parent), data=spec, run=str(to.path), start=str(start.path), epochs=epochs,
        learning_rate=learning_rate, warmup_epochs=WARMUP_EPOCHS, teacher=str(parent.path),
        rate_weight=rate_weight), told, command)
