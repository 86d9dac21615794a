"""A model as an integer program, and how often that program is right."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgesvit.boards.local import HostProgram
from edgesvit.data.dataset import Dataset
from edgesvit.errors import UsageError
from edgesvit.models.config import takes_events
from edgesvit.program.build import build
from edgesvit.program.file import to_bytes
from edgesvit.program.interpret import run
from edgesvit.program.ops import Check, Program
from edgesvit.run_folder import ModelCard


def program_of(card: ModelCard, weights: Mapping[str, np.ndarray], data: Dataset) -> Program:
    """The integer program of a model, with the first image of `data` as its self-check vector.

    Raises UsageError when the data do not have the model's image shape or number of classes.
    """
    config = card.config
    frames = (config.time_steps,) if takes_events(config) else ()
    takes = "x".join(map(str, (*frames, *config.image_size, config.in_channels)))
    has = "x".join(map(str, data.images.shape[1:]))
    if takes != has or len(data.classes) != config.classes:
        raise UsageError(f"{data.name} has {len(data.classes)} classes of {has} images, the model "
                         f"takes {takes} and tells {config.classes} classes apart",
                         "choose --data to match the model")
    program = unchecked_program(card, weights)
    return replace(program, check=Check(data.images[0], run(program, data.images[0])))


def unchecked_program(card: ModelCard, weights: Mapping[str, np.ndarray]) -> Program:
    """The integer program of a model without a self-check vector, as a search needs it."""
    return build(card.config, weights, card.mean, card.std, card.labels, card.weight_bits,
                 card.layer_bits)


def integer_accuracy(program: Program, data: Dataset) -> float:
    """Percent of `data` that the C runtime on this machine classifies right."""
    logits = HostProgram(to_bytes(program)).run_many(data.images)
    return 100 * float(np.mean(logits.argmax(1) == data.labels))
