"""One point of the search space: what is taken from a model, over all levers at once.

A setting is data: it can be compared, hashed, stored and applied again. Policies choose settings,
`apply` makes the model of one by calling the mechanisms; no policy touches a tensor.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from edgesvit.compress import precision
from edgesvit.models.config import with_time_steps
from edgesvit.run_folder import ModelCard

Weights = Mapping[str, np.ndarray]


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """What remains of a model; whatever is not named stays whole.

    `kept`: channel group -> channels kept in each of its copies (compress.channels). `bits`: layer
    (module name) -> width of its weights, 2 to 8, with a scale per
    output channel; on a fixed `grid` (compress.precision) any width, and programs store 8 bits of
    what is left. `tokens`: block -> share of tokens
    that pass through it (compress.tokens). `time_steps`: T, None as the model was trained;
    `threshold_scale` multiplies all thresholds, as fewer steps may need.
    `fold_bn` says which norm of a filter ranks its channel (compress.channels.importance).
    """

    kept: dict[str, int] = {}
    bits: dict[str, int] = {}
    grid: Literal["channel", "fixed-round", "fixed-truncate"] = "channel"
    tokens: dict[str, float] = {}
    time_steps: int | None = None
    threshold_scale: float = 1.0
    fold_bn: bool = True

    def key(self) -> str:
        """The same text for equal settings, whatever the order in which they were built."""
        return msgspec.json.encode(self, order="sorted").decode()


WHOLE = Setting()


def apply(setting: Setting, card: ModelCard, weights: Weights
          ) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """The smaller model of a setting: its card, and its weights as new arrays by name.

    Raises UsageError for a group, layer or block that the model does not have.
    """
    config, weights = card.config, dict(weights)
    if setting.kept:
        from edgesvit.compress import channels
        config, weights = channels.keep_strongest(config, weights, setting.kept,
                                                  setting.fold_bn)
    if setting.tokens:
        from edgesvit.compress import tokens
        config = tokens.with_shares(config, setting.tokens)
    if setting.time_steps is not None:
        config = with_time_steps(config, setting.time_steps)
    if setting.threshold_scale != 1:
        config = msgspec.structs.replace(config, **{
            name: setting.threshold_scale * getattr(config, name)
            for name in ("threshold", "attention_threshold")})
    layer_bits = card.layer_bits
    if setting.grid == "channel":
        layer_bits = layer_bits | setting.bits
    else:
        for layer, bits in setting.bits.items():
            name, truncate = f"{layer}.weight", setting.grid == "fixed-truncate"
            weights[name] = precision.fixed_point(weights[name], bits, truncate)
    return msgspec.structs.replace(card, config=config, layer_bits=layer_bits,
                                   metrics={}), weights
