"""Distillation: whose answers a model learns from, and what it loses by other answers."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesvit.data import Dataset
from edgesvit.errors import UsageError
from edgesvit.models.checkpoints import model_from_arrays, read_tensors
from edgesvit.run_folder import RunFolder

TIMM = "timm:"
Outputs = Tensor | tuple[Tensor, Tensor]


class Teacher:
    """A trained model that answers the student's batches, in its own normalisation and size."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...],
                 size: tuple[int, int], dataset: Dataset, device: torch.device):
        self.model, self.size = model.to(device).eval().requires_grad_(False), size
        ours, theirs = ([torch.tensor(part, device=device).view(-1, 1, 1) for part in pair]
                        for pair in ((dataset.mean, dataset.std), (mean, std)))
        self.scale = ours[1] / theirs[1]  # pixels = x std + mean in both normalisations
        self.shift = (ours[0] - theirs[0]) / theirs[1]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The student's normalised images [B, C, H, W] to logits [B, classes]."""
        images = images * self.scale + self.shift  # a grey image gains the teacher's channels
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return self.model(images).float()


def load_teacher(name: str, dataset: Dataset, device: torch.device) -> Teacher:
    """The teacher `name` of the classes of `dataset`.

    `name` is a run folder, timm:MODEL (weights from timm's own hub and cache) or timm:MODEL@FILE
    (a state dict in .pth or .safetensors). UsageError when it cannot be had or tells other classes
    apart.
    """
    load = _from_timm if name.startswith(TIMM) else _from_run_folder
    return load(name.removeprefix(TIMM), dataset, device)


def training_loss(outputs: Outputs, labels: Tensor, answers: Tensor | None, *,
                  smoothing: float, temperature: float, weight: float) -> Tensor:
    """What a model loses on `labels` [B] and, where there is a teacher, on its `answers`.

    (1 - w) cross entropy with the truth + w T^2 KL(teacher || student) at temperature T, or + w
    cross entropy with the teacher's hard label for T = 0. Of two classifiers the second one learns
    from the teacher, as in DeiT; without a teacher both learn the truth.
    """
    first, second = outputs if isinstance(outputs, tuple) else (outputs, None)
    loss = F.cross_entropy(first.float(), labels, label_smoothing=smoothing)
    if answers is None:
        if second is None:
            return loss
        return (loss + F.cross_entropy(second.float(), labels, label_smoothing=smoothing)) / 2
    student = (first if second is None else second).float()
    if temperature == 0:
        taught = F.cross_entropy(student, answers.argmax(1))
    else:
        taught = temperature**2 * F.kl_div(
            F.log_softmax(student / temperature, 1), F.log_softmax(answers / temperature, 1),
            reduction="batchmean", log_target=True)
    return (1 - weight) * loss + weight * taught


def answer_of(outputs: Outputs) -> Tensor:
    """The logits of a training forward; of two classifiers their mean, as in evaluation."""
    return sum(outputs) / 2 if isinstance(outputs, tuple) else outputs


def _from_run_folder(path: str, dataset: Dataset, device: torch.device) -> Teacher:
    folder = RunFolder(path)
    card = folder.card()
    config = card.config
    takes = (*config.image_size, config.in_channels)
    given = (*dataset.image_size, dataset.channels)
    if takes != given:
        raise UsageError("the teacher {} takes {}x{}x{} images, {} has {}x{}x{}".format(
            path, *takes, dataset.name, *given), "choose a teacher trained on the same images")
    _check_classes(path, config.classes, dataset)
    model = model_from_arrays(config, folder.weights())
    return Teacher(model, card.mean, card.std, config.image_size, dataset, device)


def _from_timm(name: str, dataset: Dataset, device: torch.device) -> Teacher:
    try:
        import timm
    except ModuleNotFoundError:
        raise UsageError(f"the teacher {TIMM}{name} needs timm, which is not installed",
                         "pip install timm") from None
    name, _, file = name.partition("@")
    try:
        if file:
            model = timm.create_model(name, num_classes=len(dataset.classes))
            model.load_state_dict(read_tensors(Path(file)))
        else:
            model = timm.create_model(name, pretrained=True)
    except UsageError:
        raise
    except Exception as error:  # an unknown name, no network, other tensors: timm's many ways
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"timm gives no trained {name}: {reason[0]}",
                         "timm.list_models(pretrained=True) lists names, timm:NAME@FILE reads "
                         "weights of your own") from None
    _check_classes(f"{TIMM}{name}", model.num_classes, dataset)
    expects = timm.data.resolve_model_data_config(model)
    return Teacher(model, expects["mean"], expects["std"], expects["input_size"][1:], dataset,
                   device)


def _check_classes(teacher: str, classes: int, dataset: Dataset) -> None:
    if classes != len(dataset.classes):
        raise UsageError(f"the teacher {teacher} tells {classes} classes apart, {dataset.name} has "
                         f"{len(dataset.classes)}", "choose a teacher of the same classes")
