"""Removing channels: which may go together, how much each matters, and the smaller model.

A group is a set of channel indices that leave together: rows of the layers that produce the
channel, its batch norm and neuron, and columns of the layer that consumes it. All groups here are
decoupled, so each may be pruned at its own rate. Channels of the residual stream are no group.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import torch
from torch import Tensor, nn

from edgesvit.errors import UsageError
from edgesvit.models.config import SpikformerConfig
from edgesvit.models.spikformer import Spikformer, build


class Group(msgspec.Struct, frozen=True):
    """`size` indices; each stands for one channel in every one of `copies` heads.

    `producers` are (layer, batch norm) pairs that lose rows, `consumers` layers that lose columns,
    all by module name.
    """

    name: str
    size: int
    copies: int
    producers: tuple[tuple[str, str], ...]
    consumers: tuple[str, ...]


def groups(config: SpikformerConfig) -> tuple[Group, ...]:
    """The prunable groups: `stem.{0,1,2}`, and per block `qk.{i}`, `v.{i}`, `hidden.{i}`."""
    found = [_stem_group(config, stage) for stage in range(3)]
    kind = config.point_layer
    for block in range(config.depth):
        attn, mlp = f"block.{block}.attn.", f"block.{block}.mlp."
        # q and k meet in a product over the head's channels: no layer consumes them.
        qk = ((attn + f"q_{kind}", attn + "q_bn"), (attn + f"k_{kind}", attn + "k_bn"))
        found += [
            Group(f"qk.{block}", config.qk_dims[block], config.heads, qk, ()),
            Group(f"v.{block}", config.v_dims[block], config.heads,
                  ((attn + f"v_{kind}", attn + "v_bn"),), (attn + f"proj_{kind}",)),
            Group(f"hidden.{block}", config.hidden_dims[block], 1,
                  ((mlp + f"fc1_{kind}", mlp + "fc1_bn"),), (mlp + f"fc2_{kind}",)),
        ]
    return tuple(found)


def importance(model: Spikformer, group: Group, fold_bn: bool = True) -> Tensor:
    """The L2 norm of every filter, summed over the producers and heads of an index: [size].

    With `fold_bn` the filters are those that run: scaled by gamma / sqrt(var + eps) of their batch
    norm, so that channels compare by the current they bring to equal thresholds.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for layer_name, bn_name in group.producers:
        weight = model.get_submodule(layer_name).weight.detach().double().cpu()
        norms = weight.flatten(1).norm(dim=1)
        if fold_bn:
            norms = norms * _bn_scale(model.get_submodule(bn_name))
        total += norms.view(group.copies, group.size).sum(0)
    return total


def select(scores: Tensor, rate: float, lanes: int = 1) -> tuple[int, ...]:
    """The sorted indices to keep when a share `rate` of the weakest goes.

    The number kept is the nearest multiple of `lanes` (never none, and all at rate 0), so that
    vector kernels run full; of equal scores the lower index stays.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"pruning rate {rate} is not in 0..1", "0.5 removes half of the channels")
    size = len(scores)
    kept = max(round(size * (1 - rate) / lanes), 1) * lanes if rate else size
    strongest = torch.sort(scores, descending=True, stable=True).indices[: min(kept, size)]
    return tuple(sorted(strongest.tolist()))


def lane_step(group: Group, lanes: int) -> int:
    """The multiple an index count must keep so that all heads together fill `lanes` channels."""
    return lanes // math.gcd(lanes, group.copies)


def prune(model: Spikformer, keep: Mapping[str, Iterable[int]]) -> Spikformer:
    """A new model, smaller in memory, that keeps only the named indices; other groups stay whole.

    It computes what `model` would with the removed channels' spikes forced to 0. UsageError for an
    unknown group or an index outside it.
    """
    known = {group.name: group for group in groups(model.config)}
    kept = {name: _checked(known, name, indices) for name, indices in keep.items()}
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for name, indices in kept.items():
        _cut(tensors, known[name], indices)
    smaller = build(_smaller_config(model.config, kept))
    smaller.load_state_dict(tensors)
    smaller.to(next(model.parameters()))
    return smaller.train(model.training)


def _stem_group(config: SpikformerConfig, stage: int) -> Group:
    number = str(stage) if stage else ""
    producer = (f"patch_embed.proj_conv{number}", f"patch_embed.proj_bn{number}")
    consumer = f"patch_embed.proj_conv{stage + 1}"
    return Group(f"stem.{stage}", config.stem[stage], 1, (producer,), (consumer,))


def _bn_scale(bn: nn.Module) -> Tensor:
    variance = bn.running_var.detach().double().cpu()
    return bn.weight.detach().double().cpu().abs() / torch.sqrt(variance + bn.eps)


def _checked(known: Mapping[str, Group], name: str, indices: Iterable[int]) -> list[int]:
    if name not in known:
        raise UsageError(f"no channel group '{name}'", f"the groups are {', '.join(known)}")
    chosen = sorted(set(int(index) for index in indices))
    if not chosen or chosen[0] < 0 or chosen[-1] >= known[name].size:
        raise UsageError(f"group {name} has the indices 0..{known[name].size - 1}, "
                         f"asked to keep {chosen or 'none'}", "keep one or more of them")
    return chosen


def _cut(tensors: dict[str, Tensor], group: Group, indices: Sequence[int]) -> None:
    # The head is the slow index: channel = head * size + index.
    rows = torch.tensor([head * group.size + i for head in range(group.copies) for i in indices])
    for layer, bn in group.producers:
        for name in (f"{layer}.weight", f"{layer}.bias",
                     *(f"{bn}.{part}" for part in _BN_PARTS)):
            if name in tensors:  # convolutions have no bias
                tensors[name] = tensors[name].index_select(0, rows)
    for layer in group.consumers:
        tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].index_select(1, rows)


_BN_PARTS = ("weight", "bias", "running_mean", "running_var")


def _smaller_config(config: SpikformerConfig, kept: Mapping[str, list[int]]) -> SpikformerConfig:
    fields = {"stem": list(config.stem), "qk": list(config.qk_dims), "v": list(config.v_dims),
              "hidden": list(config.hidden_dims)}
    for name, indices in kept.items():
        kind, index = name.split(".")
        fields[kind][int(index)] = len(indices)
    return msgspec.structs.replace(
        config, stem=tuple(fields["stem"]), qk_dims=tuple(fields["qk"]),
        v_dims=tuple(fields["v"]), hidden_dims=tuple(fields["hidden"]))
