"""Batch-norm statistics that belong to the weights as they are."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def measure_statistics(model: nn.Module, batches: Iterable[Tensor],
                       forward: nn.Module | None = None) -> None:
    """Replace every batch norm's running mean and variance by the plain mean over `batches`.

    `forward` computes with the model's weights (default: the model itself). The model is in
    training mode afterwards.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    usual = [m.momentum for m in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for images in batches:
            (forward or model)(images)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
