"""Training and fine-tuning with a surrogate gradient, resumable after every epoch."""

import ctypes
import dataclasses
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.architecture import Architecture, new_config
from edgesvit.batches import Batches, evaluate
from edgesvit.data import Dataset, load
from edgesvit.disk import append_line, read_lines, write_atomic
from edgesvit.errors import EdgesvitError, UsageError
from edgesvit.models.checkpoints import check_tensors
from edgesvit.models.config import AnyConfig
from edgesvit.models.families import build
from edgesvit.run_folder import ModelCard, RunFolder


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result of a training; a resumed run must have the same.

    A new model needs `architecture`, fine-tuning takes the model of the run folder `start`.
    `shift_px` moves every image at random, `flip` mirrors (None: for photos only), `ema` averages
    the weights over about 1 / (1 - ema) steps, 0 switches it off.
    """

    data: str
    run: str
    architecture: Architecture | None = None
    start: str = ""
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.05
    clip_norm: float = 1.0
    shift_px: int = 1
    flip: bool | None = None
    ema: float = 0.0
    bf16: bool = False
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


def train(
    settings: TrainSettings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    command: str = "",
) -> RunFolder:
    """Train to the last epoch, evaluate once on the whole test split and write the run folder.

    An interrupted training continues behind its last whole epoch when called with the same
    settings, and ends with the same weights as an uninterrupted one. UsageError when the folder
    belongs to other settings.
    """
    folder = RunFolder(settings.run)
    if _is_finished(folder, settings):
        return folder
    _keep_memory()
    dataset, config, parent = _prepare(settings)
    flip = dataset.photos if settings.flip is None else settings.flip
    batches = Batches(dataset, size=settings.batch_size, shift_px=settings.shift_px, flip=flip,
                      seed=settings.seed)
    write_atomic({_settings_path(folder): msgspec.json.format(msgspec.json.encode(settings))})
    session = _Session(settings, config, batches.steps)
    if settings.start:
        session.load_weights(RunFolder(settings.start).weights())
    session.resume(folder)
    _drop_rows_after(folder, session.epoch)
    while session.epoch < settings.epochs:
        row = session.run_epoch(batches, on_progress)
        append_line(metrics_path(folder), row)
        session.save(folder)
    return _finish(folder, session, dataset, command, parent)


def metrics_path(folder: RunFolder) -> Path:
    """One line per epoch."""
    return folder.path / "metrics.jsonl"


class _Session:
    """What changes during a training: model, optimizer, average, epoch."""

    def __init__(self, settings: TrainSettings, config: AnyConfig, steps: int):
        self.settings, self.epoch, self.steps = settings, 0, steps
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = build(config).to(self.device)
        # Decay pulls weights towards 0; on thresholds' scales and biases it would only bias them.
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW([
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ])
        self.average: dict[str, Tensor] | None = None

    def load_weights(self, arrays: dict[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        check_tensors(self.model.state_dict(), tensors, "the run folder's weights")
        self.model.load_state_dict(tensors, strict=False)

    def run_epoch(
        self, batches: Batches, on_progress: Callable[[Progress], None]
    ) -> dict[str, float]:
        """One pass over the training split; returns the epoch's line of metrics."""
        self.model.train()
        began, loss_sum, correct, seen = time.monotonic(), 0.0, 0, 0
        for step, (images, labels) in enumerate(batches.epoch(self.epoch), start=1):
            logits, loss = self._step(images.to(self.device), labels.to(self.device), step)
            loss_sum += loss * len(labels)
            correct += int((logits.argmax(1).cpu() == labels).sum())
            seen += len(labels)
            rate = seen / (time.monotonic() - began)
            on_progress(Progress(self.epoch + 1, self.settings.epochs, step, self.steps,
                                 loss_sum / seen, correct / seen, rate))
        self.epoch += 1
        return {"epoch": self.epoch, "loss": loss_sum / seen, "train_accuracy": correct / seen,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": time.monotonic() - began}

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, float]:
        settings = self.settings
        done = self.epoch * self.steps + step - 1
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(
                done, settings.epochs * self.steps, settings.warmup_epochs * self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
        if not math.isfinite(loss.item()):
            raise EdgesvitError(
                f"the loss became {loss.item()} in epoch {self.epoch + 1}, step {step}",
                f"train into a new --run with a smaller --lr than {settings.learning_rate:g}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        if settings.ema:
            self._update_average()
        return logits.detach(), loss.item()

    def _update_average(self) -> None:
        current = self.model.state_dict()
        if self.average is None:
            self.average = {name: value.clone() for name, value in current.items()}
        for name, value in current.items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.settings.ema)
            else:
                self.average[name].copy_(value)

    def final_model(self) -> nn.Module:
        """The model to keep: the averaged one when there is an average."""
        if self.average is not None:
            self.model.load_state_dict(self.average)
        return self.model.eval()

    def save(self, folder: RunFolder) -> None:
        buffer = io.BytesIO()
        torch.save({"epoch": self.epoch, "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(), "average": self.average}, buffer)
        write_atomic({_state_path(folder): buffer.getvalue()})

    def resume(self, folder: RunFolder) -> None:
        """Continue behind the last whole epoch on disk, if there is one."""
        if not _state_path(folder).exists():
            return
        try:
            state = torch.load(_state_path(folder), weights_only=True, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.average = state["epoch"], state["average"]
        except Exception:  # torch raises a dozen kinds for a damaged file
            raise UsageError(f"{_state_path(folder)} is damaged",
                             "delete it to start this training again") from None


def _prepare(settings: TrainSettings) -> tuple[Dataset, AnyConfig, str]:
    """The training split, the model's shape and the parent's hash ('' for a new model)."""
    if (settings.architecture is None) == (not settings.start):
        raise UsageError("a new model has an architecture, a fine-tuned one a start, none has both",
                         "leave --dim, --depth, --heads ... away together with --from")
    dataset = load(settings.data, "train")
    if settings.start:
        parent = RunFolder(settings.start)
        card = parent.card()
        _check_same_task(card, dataset, settings)
        # The parent's first layer has learned on pixels normalised its way.
        dataset = dataclasses.replace(dataset, mean=card.mean, std=card.std)
        return dataset, card.config, parent.weights_sha256()
    return dataset, new_config(settings.architecture, dataset), ""


def _check_same_task(card: ModelCard, dataset: Dataset, settings: TrainSettings) -> None:
    config = card.config
    wanted = (*config.image_size, config.in_channels, config.classes)
    given = (*dataset.image_size, dataset.channels, len(dataset.classes))
    if wanted != given:
        raise UsageError(
            "the model in {} takes {}x{}x{} images of {} classes, {} has {}x{}x{} of {}".format(
                settings.start, *wanted, settings.data, *given),
            f"fine-tune on the data it was trained on: --data {card.data}")


def _is_finished(folder: RunFolder, settings: TrainSettings) -> bool:
    """Whether the folder holds this very training, finished; UsageError when it holds another."""
    path = _settings_path(folder)
    if not path.exists():
        if folder.card_path.exists():
            raise UsageError(f"{folder.path} already holds a model",
                             f"choose another folder, or fine-tune it: --from {folder.path}")
        return False
    try:
        earlier = msgspec.json.decode(path.read_bytes(), type=TrainSettings)
    except msgspec.DecodeError:
        raise UsageError(f"{path} is damaged", f"choose another --run than {folder.path}") from None
    for name in settings.__struct_fields__:
        before, now = getattr(earlier, name), getattr(settings, name)
        if name != "run" and before != now:
            raise UsageError(
                f"{folder.path} was begun with {name} {before}, not {now}",
                "repeat the first command to continue it, or choose another --run")
    return folder.card_path.exists() and not _state_path(folder).exists()


def _drop_rows_after(folder: RunFolder, epoch: int) -> None:
    """Forget the metrics of an epoch whose state did not reach the disk: it will run again."""
    rows = read_lines(metrics_path(folder))
    kept = [row for row in rows if row["epoch"] <= epoch]
    if len(kept) < len(rows):
        lines = b"".join(msgspec.json.encode(row) + b"\n" for row in kept)
        write_atomic({metrics_path(folder): lines})


def _finish(folder: RunFolder, session: _Session, dataset: Dataset, command: str,
            parent: str) -> RunFolder:
    model, settings = session.final_model(), session.settings
    test = dataclasses.replace(load(settings.data, "test"), mean=dataset.mean, std=dataset.std)
    metrics = {"test_accuracy": evaluate(model, test), "test_images": float(len(test)),
               "epochs": float(session.epoch)}
    card = ModelCard(
        config=model.config, mean=dataset.mean, std=dataset.std, labels=dataset.classes,
        data=settings.data, command=command, metrics=metrics, parent=parent)
    folder.write_model(card, model.state_dict())
    _state_path(folder).unlink(missing_ok=True)
    return folder


def _settings_path(folder: RunFolder) -> Path:
    return folder.path / "train.json"


def _state_path(folder: RunFolder) -> Path:
    return folder.path / "train-state.pt"


def _schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the full learning rate: a linear rise, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def _keep_memory() -> None:
    """Let glibc keep big freed blocks instead of giving them back to the kernel at every step.

    Page faults on fresh blocks took a quarter of a training step on two cores.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library: slower, not wrong
    mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
