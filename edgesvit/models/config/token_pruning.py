"""Which share of its tokens each transformer block works on, as plain data."""

import math
from typing import Literal, NamedTuple

import msgspec

from edgesvit.errors import UsageError

Scorer = Literal["paper", "spatial", "temporal", "released", "random"]
# Of the spatial and of the temporal score; what is not here has no integer scores.
SCORE_WEIGHTS: dict[str, tuple[int, int]] = {"paper": (1, 1), "spatial": (1, 0),
                                            "temporal": (0, 1)}


class TokenPruning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stopping tokens by TP-Spikformer's scores (ICLR 2026, arXiv 2603.00527).

    `shares` has one entry per transformer block, in the order of `token_blocks`: the share of
    tokens, rounded up, that pass through it; the others keep what they are. `scorer` is 'paper',
    one of its parts, 'released' (what the authors' code computes) or 'random', for comparisons.
    `window` is the side of the neighbourhood a token is compared with.
    """

    shares: tuple[float, ...]
    scorer: Scorer = "paper"
    window: int = 3

    def __post_init__(self) -> None:
        if wrong := [share for share in self.shares if not 0 <= share <= 1]:
            raise UsageError(f"a block cannot work on a share of {wrong[0]:g} of its tokens",
                             "choose 0 to 1")
        if self.window % 2 == 0 or not 1 <= self.window <= 15:
            raise UsageError(f"tokens are compared over a window of {self.window}",
                             "choose an odd number from 1 to 15")


class TokenBlock(NamedTuple):
    """A block whose tokens can stop, by its module's name; `grid` is H, W of its tokens."""

    name: str
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        """H * W."""
        return self.grid[0] * self.grid[1]


def token_blocks(config: msgspec.Struct) -> tuple[TokenBlock, ...]:
    """The transformer blocks in the order in which they run; UsageError where no token can stop."""
    if not hasattr(config, "token_pruning"):
        raise UsageError("the tokens of SDT-V3 Model_Large cannot stop",
                         "the other families' tokens can")
    if hasattr(config, "depths"):
        counts, sizes, names = config.depths, config.stage_sizes, ("stage1", "stage2", "stage3")
    elif hasattr(config, "blocks"):
        counts, sizes, names = config.blocks, config.stage_sizes[-2:], ("block3", "block4")
    else:
        counts, sizes, names = (config.depth,), config.stage_sizes[-1:], ("block",)
    return tuple(TokenBlock(f"{name}.{i}", grid)
                 for name, count, grid in zip(names, counts, sizes, strict=True)
                 for i in range(count))


def kept_tokens(config: msgspec.Struct, index: int) -> int:
    """How many tokens pass through block `index` of `token_blocks`."""
    block, pruning = token_blocks(config)[index], config.token_pruning
    share = 1.0 if pruning is None else pruning.shares[index]
    # 0.6 of 10 is 6, though in binary fractions it is a little more.
    return min(max(math.ceil(share * block.tokens - 1e-9), 0), block.tokens)


def settle_token_pruning(config: msgspec.Struct) -> None:
    """Check the shares; those that stop no token become None, so that equal models are equal."""
    pruning = config.token_pruning
    if pruning is None:
        return
    blocks = token_blocks(config)
    if len(pruning.shares) != len(blocks):
        raise UsageError(f"{len(pruning.shares)} shares of tokens for {len(blocks)} blocks",
                         "give one per transformer block")
    if getattr(config, "events", False):
        raise UsageError("the event form's attention looks at neighbours: its tokens cannot stop",
                         "leave token_pruning away")
    if all(kept_tokens(config, i) == block.tokens for i, block in enumerate(blocks)):
        msgspec.structs.force_setattr(config, "token_pruning", None)
