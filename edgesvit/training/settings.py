"""What decides a training, and what it tells while it runs."""

from typing import Literal

import msgspec

from edgesvit.architecture import Architecture

TRAIN_FILE = "train.json"  # of a run folder: the settings of its training

class TrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result of a training; a resumed run must have the same.

    A new model needs `architecture`, fine-tuning takes the model of the run folder `start`, at T =
    `time_steps` (None: its own).
    `shift_px` moves every image at random, `flip` mirrors (None: for photos only), `cutout_px` is
    the side of a square set to the mean, `crop_share` below 1 stretches a part of at least this
    share of the image over all of it, `ema` averages the weights over about 1 / (1 - ema) steps;
    0 switches each off. `weight_bits` 2 to 8 trains with weights as the program rounds them, 0 with
    float ones. `teacher` is a run folder or timm:NAME (see training.teacher), whose answers count
    for `distil_weight` of the loss at `distil_temperature`; temperature 0 is its hard label.
    `rate_weight` times the mean firing rate is added to the loss: fewer spikes, less work.
    """

    data: str
    run: str
    architecture: Architecture | None = None
    start: str = ""
    time_steps: int | None = None
    epochs: int = 20
    batch_size: int = 64
    optimizer: Literal["adamw", "lamb"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    shift_px: int = 1
    flip: bool | None = None
    cutout_px: int = 0
    crop_share: float = 1.0
    ema: float = 0.0
    weight_bits: int = 0
    teacher: str = ""
    distil_temperature: float = 2.0
    distil_weight: float = 0.5
    bf16: bool = False
    rate_weight: float = 0.0
    seed: int = 0


class Progress(msgspec.Struct, frozen=True):
    """Where a training stands, told after every step; accuracy is that on augmented batches."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float
