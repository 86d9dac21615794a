"""Blocks that work on some of their tokens: score, select, skip, put back.

Notation: T time steps, B batch, C channels, N = H W tokens, K of them chosen. The choice is the
same for all steps, so that a neuron sees one token. Where the stream holds sums of spikes, the
scores are those of the integer program, bit for bit (edgesvit/program/tokens.py defines them); a
membrane stream is taken in steps of MEMBRANE_STEP, the program takes it in its own.
"""

from collections.abc import Callable

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from edgesvit.models.config.token_pruning import SCORE_WEIGHTS, kept_tokens, token_blocks

ONE = 1 << 16
MEMBRANE_STEP = 2.0**-10


class TokenChoice:
    """What one block does with its tokens; without `config.token_pruning` it works on all.

    `index` is the block's in config.token_blocks; `membranes` says that the stream holds those.
    """

    def __init__(self, config: msgspec.Struct, index: int, membranes: bool):
        self.grid = token_blocks(config)[index].grid
        self.kept, self.all = kept_tokens(config, index), self.grid[0] * self.grid[1]
        self.pruning, self.index = config.token_pruning, index
        self.step = MEMBRANE_STEP if membranes else 1.0

    def over_map(self, block: Callable[[Tensor], Tensor], x: Tensor, scored: Tensor | None = None
                 ) -> Tensor:
        """A block on maps [T, B, C, H, W], given the chosen tokens as [T, B, C, 1, K].

        The scores are those of `scored`, a map of the same tokens, by default x itself.
        """
        def on_tokens(tokens: Tensor) -> Tensor:
            return block(tokens.unsqueeze(3)).flatten(3)

        if self.kept == self.all:
            return block(x)
        chosen = self.choose(x if scored is None else scored)
        return _on_chosen(on_tokens, x.flatten(3), 3, chosen).unflatten(3, self.grid)

    def over_tokens(self, block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A block on tokens [T, B, N, C], given the chosen ones as [T, B, K, C]."""
        if self.kept == self.all:
            return block(x)
        return _on_chosen(block, x, 2, self.choose(x.transpose(2, 3).unflatten(3, self.grid)))

    @torch.no_grad()
    def choose(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, H, W] to the K best tokens of each image, ascending: int64 [B, K]."""
        scorer = self.pruning.scorer
        if scorer == "random":
            random = torch.Generator().manual_seed(self.index)
            scores = torch.rand(x.shape[1], self.all, generator=random).to(x.device)
        elif scorer == "released":
            scores = released_scores(x.double(), self.pruning.window)
        else:
            features = (x.double() / self.step).round()
            scores = token_scores(features, self.pruning.window, *SCORE_WEIGHTS[scorer])
        order = torch.sort(scores, dim=1, descending=True, stable=True).indices
        return order[:, : self.kept].sort(dim=1).values


def _on_chosen(block: Callable[[Tensor], Tensor], x: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """x [T, B, ...] with the tokens `chosen` [B, K] of `axis` replaced by what the block gives."""
    if chosen.shape[1] == 0:
        return x
    shape = [1, chosen.shape[0], 1, 1]
    shape[axis] = chosen.shape[1]
    wide = list(x.shape)
    wide[axis] = chosen.shape[1]
    places = chosen.view(shape).expand(wide)
    return x.scatter(axis, places, block(x.gather(axis, places)))


def token_scores(features: Tensor, window: int, spatial: int, temporal: int) -> Tensor:
    """Whole numbers float64 [T, B, C, H, W] to int64 [B, N]: program.tokens.token_scores."""
    total = features.sum(0)
    unlike = _unlikeness(total, window_sums(total, window)).flatten(1)
    before = torch.cat((torch.zeros_like(features[:1]), features[:-1]))
    changes = (features - before).abs().sum((0, 2)).long().flatten(1)
    return spatial * _normalised(unlike) + temporal * _normalised(changes)


def window_sums(x: Tensor, window: int) -> Tensor:
    """[B, C, H, W] to sums over the window x window tokens around each, nothing outside."""
    return F.avg_pool2d(x, window, 1, window // 2, divisor_override=1)


def _unlikeness(x: Tensor, y: Tensor) -> Tensor:
    """ONE minus the cosine of the vectors x and y [B, C, H, W]: int64 [B, H, W]."""
    product, square_x, square_y = ((a * b).sum(1).long() for a, b in ((x, y), (x, x), (y, y)))
    (root_x, a), (root_y, b) = _root(square_x.clamp(min=1)), _root(square_y.clamp(min=1))
    cosine = (product.abs() << (a + b)) // (root_x * root_y >> 16)
    unlike = ONE - product.sign() * cosine.clamp(max=ONE)
    return torch.where(square_x == 0, 0, unlike)


def _root(square: Tensor) -> tuple[Tensor, Tensor]:
    """floor(sqrt(square * 4**a)) in 2**30..2**31, and the largest such a."""
    exponent = torch.zeros_like(square)
    for bits in (32, 16, 8, 4, 2):
        small = square < 1 << 62 - bits
        square = torch.where(small, square << bits, square)
        exponent = exponent + small * (bits // 2)
    root = square.double().sqrt().long()  # off by one at most
    root = root - (root * root > square).long()
    return root + ((root + 1) ** 2 <= square), exponent


def _normalised(x: Tensor) -> Tensor:
    """Integers [B, N] to 0..ONE over each map; all 0 when they are equal."""
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return (x - low) * ONE // (high - low).clamp(min=1)


def float_scores(x: Tensor, window: int) -> Tensor:
    """The paper's score of maps [T, B, C, H, W] in floating point: [B, N]; what integers follow."""
    mean = x.mean(0)
    valid = window_sums(torch.ones_like(mean[:, :1]), window)
    around = window_sums(mean, window) / valid
    norms = mean.norm(dim=1) * around.norm(dim=1)
    unlike = (1 - (mean * around).sum(1) / (norms + 1e-6)) * (mean.norm(dim=1) > 0)
    before = torch.cat((torch.zeros_like(x[:1]), x[:-1]))
    changes = (x - before).abs().mean((0, 2))

    def normalised(scores: Tensor) -> Tensor:
        low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
        return torch.where(high > low, (scores - low) / (high - low), 0)

    return normalised(unlike.flatten(1)) + normalised(changes.flatten(1))


def released_scores(x: Tensor, window: int) -> Tensor:
    """What the authors' code computes from maps [T, B, C, H, W]: [B, N].

    Its neighbourhood is summed over all channels at once, so that only the sign of the sum remains
    of it, and the score is the cosine with a vector of equal numbers. At T = 1 nothing changes.
    """
    mean, channels = x.mean(0), x.shape[2]
    sign = window_sums(mean.sum(1, keepdim=True), window).squeeze(1).sign()
    norm = (channels**0.5 * mean.norm(dim=1)).clamp(min=1e-12)
    scores = (-sign * mean.sum(1) / norm).flatten(1).softmax(1)
    if x.shape[0] > 1:
        changes = x.mean(2).diff(dim=0).abs().mean(0)
        scores = scores + changes.flatten(1).softmax(1)
    return scores
