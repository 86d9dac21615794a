"""Batch-norm statistics measured anew after something was taken from a model.

What a removed channel added to its consumers, or a narrower weight adds, moves the mean and the
variance of every current behind it; a batch norm that keeps the statistics of the whole model lets
neurons behind it fire far too rarely or too often. No weight is trained and no label is read.
"""

from collections.abc import Mapping

import numpy as np
import torch

from edgesvit.batches import normalised
from edgesvit.models.checkpoints import model_from_arrays
from edgesvit.run_folder import ModelCard
from edgesvit.threads import one_torch_thread
from edgesvit.training.fake_quantize import FakeQuantized
from edgesvit.training.statistics import measure_statistics

BATCH = 64


def recalibrated(card: ModelCard, weights: Mapping[str, np.ndarray], images: np.ndarray
                 ) -> dict[str, np.ndarray]:
    """The weights, with the running statistics of all batch norms as `images` make them.

    `images` are uint8 [n, H, W, C], event frames [n, T, H, W, C]. Layers with widths of their own
    (the card's `layer_bits`) compute with weights rounded to these.
    """
    model = model_from_arrays(card.config, weights)
    forward = (FakeQuantized(model, card.std, card.weight_bits, card.layer_bits)
               if card.layer_bits else model)
    parts = (torch.from_numpy(images[i : i + BATCH].copy()) for i in range(0, len(images), BATCH))
    with one_torch_thread():
        measure_statistics(model, (normalised(part, card.mean, card.std) for part in parts),
                           forward)
    state = model.state_dict()
    return {name: state[name].numpy() if name.endswith(("running_mean", "running_var")) else array
            for name, array in weights.items()}
