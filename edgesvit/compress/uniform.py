"""Make a model fit a board: the smallest uniform channel pruning that meets its memory.

Weights are 8 bits per channel throughout; what is searched is the one rate at which every allowed
channel group is pruned. Pruning is physical: the result is a smaller model in a run folder, with
batch norms recalibrated.
"""

from collections.abc import Callable, Sequence

import msgspec

from edgesvit.compress import channels
from edgesvit.compress.channels import Weights
from edgesvit.compress.fine_tune import LEARNING_RATE
from edgesvit.compress.judge import calibration_images
from edgesvit.compress.recalibrate import recalibrated
from edgesvit.cost import memory
from edgesvit.data.dataset import Dataset
from edgesvit.errors import DoesNotFit
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.profiles import Profile, Recipe
from edgesvit.program.file import to_bytes
from edgesvit.run_folder import ModelCard, RunFolder
from edgesvit.targets import Target
from edgesvit.train import TrainSettings, train

RATE_STEP = 0.05


def prune_to_fit(source: RunFolder, out: RunFolder, target: Target, profile: Profile,
                 data: Dataset, note: Callable[[str], None]) -> ModelCard:
    """Write into `out` the least pruned model that fits `target` and `profile`.

    Raises DoesNotFit naming the binding constraint: memory that no allowed rate reaches, or
    accuracy lost beyond the profile's limit (the pruned model is kept in `out` all the same).
    """
    card, weights, recipe = source.card(), source.weights(), profile.recipe
    rates = _rates(recipe)
    chosen = _least(rates, lambda rate: not _short(
        *_pruned(card, weights, recipe, rate, target), data, target, profile))
    if chosen is None:
        worst = _pruned(card, weights, recipe, rates[-1], target)
        raise DoesNotFit(
            f"INFEASIBLE: {target.name} at the highest rate {rates[-1]:.2f}: "
            + "; ".join(_short(*worst, data, target, profile)),
            "choose a larger target, or a smaller model: edgesvit train --dim ...")
    small, weights = _pruned(card, weights, recipe, chosen, target)
    if small.config != card.config:
        weights = recalibrated(small, weights, calibration_images(card.data).images)
    return _finish(card, small, weights, chosen, source, out, target, profile, data, note)


def _finish(card: ModelCard, small: ModelCard, weights: Weights, rate: float, source: RunFolder,
            out: RunFolder, target: Target, profile: Profile, data: Dataset,
            note: Callable[[str], None]) -> ModelCard:
    before = integer_accuracy(program_of(card, source.weights(), data), data)
    epochs = profile.recipe.fine_tune_epochs
    place = RunFolder(out.path / "pruned") if epochs else out
    small = msgspec.structs.replace(
        small, metrics={}, parent=source.weights_sha256(),
        command=f"edgesvit compress --model {source.path} --target {target.name}")
    place.write_model(small, weights)
    if epochs:
        train(TrainSettings(data=card.data, run=str(out.path), start=str(place.path),
                            epochs=epochs, learning_rate=LEARNING_RATE),
              command=small.command)
        small = out.card()
    after = integer_accuracy(program_of(small, out.weights(), data), data)
    metrics = small.metrics | {"pruning_rate": rate, "integer_accuracy": after / 100}
    small = msgspec.structs.replace(small, metrics=metrics)
    out.write_model(small, out.weights())
    note(f"pruned {', '.join(profile.recipe.groups)} at {rate:.2f}: integer accuracy "
         f"{before:.2f} % -> {after:.2f} %, in {out.path}")
    limit = profile.max_accuracy_drop
    if limit is not None and before - after > limit:
        raise DoesNotFit(
            f"INFEASIBLE: to fit {target.name} the accuracy falls by {before - after:.2f} points, "
            f"profile {profile.name!r} allows {limit:g} (pruned model kept in {out.path})",
            f"edgesvit compress --model {source.path} --target {target.name} --fine-tune 20")
    return small


def _rates(recipe: Recipe) -> list[float]:
    count = int(recipe.max_rate / RATE_STEP + 1e-9)
    return [round(RATE_STEP * i, 2) for i in range(count + 1)]


def _least(rates: Sequence[float], fits: Callable[[float], bool]) -> float | None:
    """The lowest rate that fits, by bisection: memory falls as the rate rises."""
    low, high = 0, len(rates)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(rates[middle]) else (middle + 1, high)
    return rates[low] if low < len(rates) else None


def _pruned(card: ModelCard, weights: Weights, recipe: Recipe, rate: float, target: Target
            ) -> tuple[ModelCard, Weights]:
    kept = {group.name: channels.kept_count(group.size, rate, target.lanes)
            for group in channels.groups(card.config) if group.kind in recipe.groups}
    config, smaller = channels.keep_strongest(card.config, weights, kept)
    return msgspec.structs.replace(card, config=config), smaller


def _short(card: ModelCard, weights: Weights, data: Dataset, target: Target, profile: Profile
           ) -> list[str]:
    program = program_of(card, weights, data)
    used = memory.estimate(program, len(to_bytes(program)), target)
    return memory.shortfalls(used, target, profile)
