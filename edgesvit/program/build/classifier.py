"""The classifiers: means over tokens and steps, then a linear layer, in integers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesvit.program.build.emitter import Emitter
from edgesvit.program.ops import Classify, Kind, Value

ROOM = 2**29  # for the scores of one classifier, so that those of two and their biases fit int32


@dataclass(frozen=True)
class Head:
    """A linear layer on the sum of `count` integers a channel, whose rounded weights have `scale`.

    One of its sums in units of the weights' scale stands for `step` of a score; they are `largest`
    at most.
    """

    source: Value
    weight: np.ndarray  # float64 [C, classes], of the source's integers
    bias: np.ndarray  # float64 [classes], in scores
    bits: int
    count: int

    @property
    def scale(self) -> float:
        return np.abs(self.weight).max() / (2 ** (self.bits - 1) - 1)

    @property
    def step(self) -> float:
        return self.scale / self.count

    @property
    def largest(self) -> float:
        weight = np.abs(self.weight / self.scale).sum(0).max()
        return self.count * self.source.max_level * weight


def classify(emit: Emitter, sources: Sequence[Value]) -> None:
    """Emit the logits: of one source, or a classifier for each of two.

    A model with two classifiers answers with their mean. Where both read the same, that is one
    classifier again; otherwise the second one adds its scores to the first one's. Either way the
    logits are the sum, as their common scale is nobody's concern.
    """
    names = ("head", "head_kd") if getattr(emit.config, "kd", False) else ("head",)
    groups = [names] if len(sources) == 1 else [(name,) for name in names]
    heads = [_head(emit, source, group) for source, group in zip(sources, groups, strict=True)]
    # Shifted right, all have the unit of the coarsest.
    unit = max(head.step * 2.0 ** _least_shift(head) for head in heads)
    stream = ""
    for head, name in zip(heads, ("logits.head", "logits")[-len(heads):], strict=True):
        shift = min(math.floor(math.log2(unit / head.step)), 31)
        scale = head.scale * (unit / head.step / 2**shift)
        emit.new(name, Kind.LOGITS, (1, 1, head.weight.shape[1]))
        emit.ops.append(Classify(
            head.source.name, name, np.rint(head.weight / scale).astype(np.int8),
            np.rint(head.bias * head.count / scale / 2**shift).astype(np.int32), head.bits, shift,
            stream))
        stream = name


def _head(emit: Emitter, source: Value, names: Sequence[str]) -> Head:
    """The sum of the classifiers called `names`."""
    weight = sum(emit.weights[f"{name}.weight"].astype(np.float64).T for name in names)
    bias = sum(emit.weights[f"{name}.bias"].astype(np.float64) for name in names)
    if source.kind == Kind.MEMBRANE:
        weight = weight * emit.units[source.name][:, None]
    return Head(source, weight, bias, emit.bits_of(names[0]), emit.time_steps * source.tokens)


def _least_shift(head: Head) -> int:
    """What keeps the scores inside ROOM: only membranes need any."""
    if head.source.kind != Kind.MEMBRANE:
        return 0
    return max(0, math.ceil(math.log2(head.largest / ROOM)))
