"""Removing channels: how much each matters, which to keep, and the smaller model's arrays.

Works on plain arrays (a state dict of NumPy tensors). Which channels leave together is declared in
`edgesvit.compress.groups`; every group may be pruned at its own rate.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgesvit.compress.groups import Group, Part, groups, smaller
from edgesvit.errors import UsageError
from edgesvit.models.config import AnyConfig

Weights = Mapping[str, np.ndarray]
BN_EPSILON = 1e-5
_PER_CHANNEL = ("weight", "bias")
_OF_A_BN = ("weight", "bias", "running_mean", "running_var")

__all__ = ["Group", "groups", "importance", "keep_strongest", "kept_count", "lane_step",
           "owned_parameters", "prune", "select", "strongest", "strongest_of"]


def importance(weights: Weights, group: Group, fold_bn: bool = True) -> np.ndarray:
    """The L2 norm of all filters of an index, over producers and heads together: float64 [size].

    With `fold_bn` the filters are those that run: scaled by gamma / sqrt(var + eps) of their batch
    norms, so that channels compare by the current they bring to equal thresholds.
    """
    total = np.zeros(group.size)
    for part in group.producers:
        weight = weights[f"{part.layer}.weight"].astype(np.float64)
        squares = (weight.reshape(len(weight), -1) ** 2).sum(1)
        if fold_bn:
            for bn in part.bns:
                squares *= _bn_scale(weights, bn) ** 2
        total += squares.reshape(group.copies, group.size).sum(0)
    return np.sqrt(total)


def kept_count(size: int, rate: float, step: int = 1) -> int:
    """How many of `size` indices stay when floor(rate * size) of them would go.

    Rounded to the nearest multiple of `step`, so that vector kernels run full: never none, never
    more than there are, and all at rate 0.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"pruning rate {rate} is not in 0..1", "0.5 removes half of the channels")
    left = size - math.floor(rate * size + 1e-9)
    return min(max(round(left / step), 1) * step, size) if left < size else size


def strongest(scores: np.ndarray, count: int) -> tuple[int, ...]:
    """The sorted indices of the `count` highest scores; of equal ones the lower index stays."""
    return tuple(sorted(np.argsort(-scores, kind="stable")[:count].tolist()))


def select(scores: np.ndarray, rate: float, step: int = 1) -> tuple[int, ...]:
    """The sorted indices to keep when a share `rate` of the weakest goes (as `kept_count`)."""
    return strongest(scores, kept_count(len(scores), rate, step))


def lane_step(group: Group, lanes: int) -> int:
    """The multiple an index count must keep so that all heads together fill `lanes` channels."""
    return lanes // math.gcd(lanes, group.copies)


def owned_parameters(weights: Weights, group: Group) -> int:
    """How many weights, biases and batch norm entries leave with all channels of a group."""
    own = {f"{name}.{part}" for made in (*group.producers, *group.through)
           for name in (made.layer, *made.bns) for part in _PER_CHANNEL}
    own |= {f"{layer}.weight" for layer in group.consumers}
    return sum(weights[name].size for name in own if name in weights)


def keep_strongest(config: AnyConfig, weights: Weights, counts: Mapping[str, int],
                   fold_bn: bool = True) -> tuple[AnyConfig, dict[str, np.ndarray]]:
    """The model that keeps the `counts[name]` most important indices of the named groups."""
    return prune(config, weights, strongest_of(config, weights, counts, fold_bn))


def strongest_of(config: AnyConfig, weights: Weights, counts: Mapping[str, int],
                 fold_bn: bool = True) -> dict[str, tuple[int, ...]]:
    """The sorted `counts[name]` most important indices of the named groups."""
    known = {group.name: group for group in groups(config)} if counts else {}
    keep = {}
    for name, count in counts.items():
        group = _known(known, name)
        if not 1 <= count <= group.size:
            raise UsageError(f"group {name} has {group.size} indices, asked to keep {count}",
                             "keep one or more of them")
        keep[name] = strongest(importance(weights, group, fold_bn), count)
    return keep


def prune(config: AnyConfig, weights: Weights, keep: Mapping[str, Iterable[int]]
          ) -> tuple[AnyConfig, dict[str, np.ndarray]]:
    """A new model, smaller in memory, that keeps only the named indices; other groups stay whole.

    It computes what the given model would with the filters and batch norms of the removed channels
    at 0. UsageError for an unknown group or an index outside it.
    """
    known = {group.name: group for group in groups(config)} if keep else {}
    kept = {name: _checked(_known(known, name), indices) for name, indices in keep.items()}
    tensors = dict(weights)
    for name, indices in kept.items():
        _cut(tensors, known[name], indices)
    sizes = {name: len(indices) for name, indices in kept.items()}
    return smaller(config, sizes), tensors


def _cut(tensors: dict[str, np.ndarray], group: Group, indices: Sequence[int]) -> None:
    rows = np.array([head * group.size + i for head in range(group.copies) for i in indices])
    for name in _row_tensors((*group.producers, *group.through)):
        if name in tensors:  # most convolutions have no bias
            tensors[name] = np.ascontiguousarray(tensors[name][rows])
    for layer in group.consumers:
        tensors[f"{layer}.weight"] = np.ascontiguousarray(tensors[f"{layer}.weight"][:, rows])


def _row_tensors(parts: Iterable[Part]) -> list[str]:
    return [name for part in parts for name in (
        *(f"{part.layer}.{tensor}" for tensor in _PER_CHANNEL),
        *(f"{bn}.{tensor}" for bn in part.bns for tensor in _OF_A_BN))]


def _bn_scale(weights: Weights, bn: str) -> np.ndarray:
    variance = weights[f"{bn}.running_var"].astype(np.float64)
    return weights[f"{bn}.weight"].astype(np.float64) / np.sqrt(variance + BN_EPSILON)


def _known(known: Mapping[str, Group], name: str) -> Group:
    if name not in known:
        raise UsageError(f"no channel group '{name}'", f"the groups are {', '.join(known)}")
    return known[name]


def _checked(group: Group, indices: Iterable[int]) -> list[int]:
    chosen = sorted(set(int(index) for index in indices))
    if not chosen or chosen[0] < 0 or chosen[-1] >= group.size:
        raise UsageError(f"group {group.name} has the indices 0..{group.size - 1}, "
                         f"asked to keep {chosen or 'none'}", "keep one or more of them")
    return chosen
