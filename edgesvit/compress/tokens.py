"""Stopping tokens: which share of its tokens each transformer block works on.

Nothing is cut from a model: its configuration says the shares, and the float model, training and
the integer program follow it. models/tokens.py scores, selects and puts back.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from edgesvit.errors import UsageError
from edgesvit.models.config.token_pruning import (
    Scorer,
    TokenPruning,
    kept_tokens,
    token_blocks,
)

Config = TypeVar("Config", bound=msgspec.Struct)


def shares_of(config: msgspec.Struct) -> dict[str, float]:
    """The share of tokens by block, in the order in which the blocks run."""
    blocks, pruning = token_blocks(config), config.token_pruning
    shares = (1.0,) * len(blocks) if pruning is None else pruning.shares
    return {block.name: share for block, share in zip(blocks, shares, strict=True)}


def with_shares(config: Config, shares: Mapping[str, float], scorer: Scorer | None = None,
                window: int | None = None) -> Config:
    """The configuration with other shares for the named blocks; scorer and window as they were.

    UsageError for a block that the model does not have.
    """
    whole = shares_of(config)
    if unknown := [name for name in shares if name not in whole]:
        raise UsageError(f"no transformer block {unknown[0]!r}",
                         f"the blocks are {', '.join(whole)}")
    before = config.token_pruning or TokenPruning(shares=())
    pruning = TokenPruning(shares=tuple((whole | dict(shares)).values()),
                           scorer=scorer or before.scorer, window=window or before.window)
    return msgspec.structs.replace(config, token_pruning=pruning)


def average_kept(config: msgspec.Struct) -> float:
    """The mean over the blocks of the share of tokens that pass, as the papers count it."""
    blocks = token_blocks(config)
    return sum(kept_tokens(config, i) / b.tokens for i, b in enumerate(blocks)) / len(blocks)
