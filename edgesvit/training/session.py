"""The training itself: model, optimizer, average and epoch, from batch to batch."""

import io
import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgesvit.batches import Batches
from edgesvit.data import Dataset
from edgesvit.disk import write_atomic
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.models.checkpoints import check_tensors
from edgesvit.models.config import AnyConfig
from edgesvit.models.families import build
from edgesvit.training.activity import Activity
from edgesvit.training.average import STATISTICS_BATCHES, WeightAverage, averaged
from edgesvit.training.fake_quantize import FakeQuantized
from edgesvit.training.lamb import Lamb
from edgesvit.training.ranks import Ranks
from edgesvit.training.settings import Progress, TrainSettings
from edgesvit.training.teacher import answer_of, load_teacher, training_loss

# Asking a GPU for a number makes it wait for the next step to be issued.
STEPS_PER_ANSWER = {"cpu": 1, "cuda": 20}


class Session:
    """What changes during a training."""

    def __init__(self, settings: TrainSettings, config: AnyConfig, dataset: Dataset, steps: int,
                 ranks: Ranks, layer_bits: Mapping[str, int] | None = None):
        self.settings, self.epoch, self.steps, self.ranks = settings, 0, steps, ranks
        self.device = ranks.device
        self.teacher = None
        if settings.teacher:
            self.teacher = load_teacher(settings.teacher, dataset, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = build(config).to(self.device)
        self.activity = Activity(self.model) if settings.rate_weight else None
        self.forward = self.model
        if settings.weight_bits or layer_bits:
            self.forward = FakeQuantized(self.model, dataset.std, settings.weight_bits or 8,
                                         layer_bits)
        self.shared = ranks.shared(self.forward)
        self.optimizer = _optimizer(self.model, settings)
        self.average = WeightAverage(settings.ema) if settings.ema else None

    def load_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        check_tensors(self.model.state_dict(), tensors, "the run folder's weights")
        self.model.load_state_dict(tensors, strict=False)

    def run_epoch(
        self, batches: Batches, on_progress: Callable[[Progress], None]
    ) -> dict[str, float]:
        """One pass over the training split; returns the epoch's line of metrics."""
        self.model.train()
        began, world = time.monotonic(), self.ranks.world
        sums = torch.zeros(3, device=self.device)  # of losses, of right answers, of images
        shard = (self.ranks.rank, world)
        for step, (images, labels) in enumerate(batches.epoch(self.epoch, shard), start=1):
            sums += self._step(self._near(images), self._near(labels), step)
            if step % STEPS_PER_ANSWER[self.device.type] and step < self.steps:
                continue
            loss, correct, seen = sums.tolist()
            if not math.isfinite(loss):
                raise EdgesvitError(
                    f"the loss became {loss} in epoch {self.epoch + 1}, step {step}", "train into "
                    f"a new --run with a smaller --lr than {self.settings.learning_rate:g}")
            rate = world * seen / (time.monotonic() - began)
            on_progress(Progress(self.epoch + 1, self.settings.epochs, step, self.steps,
                                 loss / seen, correct / seen, rate))
        self.epoch += 1
        loss, correct, seen = self.ranks.sum(sums).tolist()
        return {"epoch": self.epoch, "loss": loss / seen, "train_accuracy": correct / seen,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": time.monotonic() - began}

    def _near(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; a GPU fetches it while it computes."""
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _step(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """Learn from one batch; returns its sums [loss, right answers, images]."""
        settings = self.settings
        done = self.epoch * self.steps + step - 1
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(
                done, settings.epochs * self.steps, settings.warmup_epochs * self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            outputs = self.shared(images)
            answers = self.teacher(images) if self.teacher else None
        loss = training_loss(
            outputs, labels, answers, smoothing=settings.label_smoothing,
            temperature=settings.distil_temperature, weight=settings.distil_weight)
        if self.activity:
            loss = loss + settings.rate_weight * self.activity.rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update(self.model)
        with torch.no_grad():
            correct = (answer_of(outputs).argmax(1) == labels).sum()
            return torch.stack([loss * len(labels), correct, loss.new_tensor(len(labels))])

    def final_model(self, batches: Batches) -> nn.Module:
        """The model to keep: the averaged one when there is an average."""
        if self.average:
            fresh = itertools.islice(batches.epoch(self.settings.epochs), STATISTICS_BATCHES)
            averaged(self.model, self.average, (self._near(x) for x, _ in fresh), self.forward)
        return self.model.eval()

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        torch.save({"epoch": self.epoch, "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": self.average and self.average.state()}, buffer)
        write_atomic({path: buffer.getvalue()})

    def resume(self, path: Path) -> None:
        """Continue behind the last whole epoch on disk, if there is one."""
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average:
                self.average.load(state["average"])
            self.epoch = state["epoch"]
        except Exception:  # torch raises a dozen kinds for a damaged file
            raise UsageError(f"{path} is damaged",
                             "delete it to start this training again") from None


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    # Decay pulls weights towards 0; on thresholds' scales and biases it would only bias them.
    matrices = {"params": [p for p in model.parameters() if p.ndim > 1],
                "weight_decay": settings.weight_decay}
    vectors = {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}
    if settings.optimizer == "lamb":
        return Lamb([matrices, vectors | {"adapt": False}])
    return torch.optim.AdamW([matrices, vectors], fused=True)


def _schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the full learning rate: a linear rise, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
