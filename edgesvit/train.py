"""Training and fine-tuning with a surrogate gradient, resumable after every epoch."""

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgesvit.architecture import new_config
from edgesvit.batches import Batches, evaluate
from edgesvit.data import Dataset, load
from edgesvit.disk import append_line, read_lines, write_atomic
from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig, with_time_steps
from edgesvit.run_folder import ModelCard, RunFolder
from edgesvit.training.fake_quantize import fake_quantized_accuracy
from edgesvit.training.ranks import Ranks, joined
from edgesvit.training.session import Session
from edgesvit.training.settings import TRAIN_FILE, Progress, TrainSettings


def train(
    settings: TrainSettings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    command: str = "",
) -> RunFolder:
    """Train to the last epoch, evaluate once on the whole test split and write the run folder.

    An interrupted training continues behind its last whole epoch when called with the same
    settings, and ends with the same weights as an uninterrupted one. UsageError when the folder
    belongs to other settings. Started by torchrun, the processes share every batch, and the first
    one alone writes and tells its progress.
    """
    folder = RunFolder(settings.run)
    if _is_finished(folder, settings):
        return folder
    _keep_memory()
    with joined() as ranks:
        _train(settings, folder, ranks, on_progress if ranks.first else lambda progress: None,
               command)
    return folder


def _train(settings: TrainSettings, folder: RunFolder, ranks: Ranks,
           on_progress: Callable[[Progress], None], command: str) -> None:
    dataset, config, parent, layer_bits = _prepare(settings, ranks.world)
    flip = dataset.photos if settings.flip is None else settings.flip
    batches = Batches(dataset, size=settings.batch_size, shift_px=settings.shift_px, flip=flip,
                      cutout_px=settings.cutout_px, crop_share=settings.crop_share,
                      seed=settings.seed)
    session = Session(settings, config, dataset, batches.steps, ranks, layer_bits)
    if settings.start:
        session.load_weights(RunFolder(settings.start).weights())
    session.resume(_state_path(folder))
    ranks.wait()  # nobody looks for a state any more
    if ranks.first:
        write_atomic({_settings_path(folder): msgspec.json.format(msgspec.json.encode(settings))})
        _drop_rows_after(folder, session.epoch)
    while session.epoch < settings.epochs:
        row = session.run_epoch(batches, on_progress)
        if ranks.first:
            append_line(metrics_path(folder), row)
            session.save(_state_path(folder))
    if ranks.first:
        _finish(folder, session, batches, dataset, command, parent, layer_bits)
    ranks.wait()


def metrics_path(folder: RunFolder) -> Path:
    """One line per epoch."""
    return folder.path / "metrics.jsonl"


def _prepare(settings: TrainSettings, world: int
             ) -> tuple[Dataset, AnyConfig, str, dict[str, int]]:
    """The training split, the model's shape, the parent's hash ('' for a new model) and the
    widths of single layers that a search gave the parent.
    """
    if (settings.architecture is None) == (not settings.start):
        raise UsageError("a new model has an architecture, a fine-tuned one a start, none has both",
                         "leave --dim, --depth, --heads ... away together with --from")
    if settings.weight_bits not in (0, *range(2, 9)):
        raise UsageError(f"{settings.weight_bits}-bit weights", "choose 2 to 8 bits, 0 for none")
    if settings.batch_size % world:
        raise UsageError(f"{world} processes cannot share batches of {settings.batch_size} alike",
                         f"choose a --batch-size that is a multiple of {world}")
    dataset = load(settings.data, "train")
    if settings.start:
        parent = RunFolder(settings.start)
        card = parent.card()
        _check_same_task(card, dataset, settings)
        # The parent's first layer has learned on pixels normalised its way.
        dataset = dataclasses.replace(dataset, mean=card.mean, std=card.std)
        config = card.config
        if settings.time_steps is not None:
            config = with_time_steps(config, settings.time_steps)
        return dataset, config, parent.weights_sha256(), card.layer_bits
    return dataset, new_config(settings.architecture, dataset), "", {}


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


def _finish(folder: RunFolder, session: Session, batches: Batches, dataset: Dataset, command: str,
            parent: str, layer_bits: dict[str, int]) -> None:
    model, settings = session.final_model(batches), session.settings
    test = dataclasses.replace(load(settings.data, "test"), mean=dataset.mean, std=dataset.std)
    metrics = {"test_accuracy": evaluate(model, test), "test_images": float(len(test)),
               "epochs": float(session.epoch)}
    bits = settings.weight_bits or 8
    if settings.weight_bits or layer_bits:
        metrics["fake_quantized_accuracy"] = fake_quantized_accuracy(model, test, bits, layer_bits)
    card = ModelCard(
        config=model.config, mean=dataset.mean, std=dataset.std, labels=dataset.classes,
        data=settings.data, command=command, metrics=metrics, weight_bits=bits,
        layer_bits=layer_bits, parent=parent)
    folder.write_model(card, model.state_dict())
    _state_path(folder).unlink(missing_ok=True)


def _settings_path(folder: RunFolder) -> Path:
    return folder.path / TRAIN_FILE


def _state_path(folder: RunFolder) -> Path:
    return folder.path / "train-state.pt"


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
