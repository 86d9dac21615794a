"""Blocks of a program that work on some of their tokens."""

from collections.abc import Callable

import numpy as np

from edgesvit.errors import UsageError
from edgesvit.models.config.token_pruning import SCORE_WEIGHTS, kept_tokens, token_blocks
from edgesvit.program.build.emitter import Emitter
from edgesvit.program.ops import ChooseTokens, Gather, Kind, PutBack, Value


class Choice:
    """The tokens that block `at` works on, chosen by the scores of `scored`, a map of them all."""

    def __init__(self, emit: Emitter, at: str, scored: Value):
        names = [block.name for block in token_blocks(emit.config)]
        self.emit, self.at = emit, at
        self.kept, self.all = kept_tokens(emit.config, names.index(at)), scored.tokens
        self.index = self._choose(scored) if 0 < self.kept < self.all else None

    def over(self, block: Callable[[Value], Value], x: Value) -> Value:
        """What the block makes of the chosen tokens of x; the others stay as they are."""
        if self.kept == self.all:
            return block(x)
        if self.index is None:
            return x
        unit = self.emit.units.get(x.name, 1.0)
        few = self.emit.new(f"{self.at}.chosen", x.kind, (1, self.kept, x.shape[2]), x.max_level,
                            unit)
        self.emit.ops.append(Gather(x.name, self.index.name, few.name))
        branch = block(few)
        out = self.emit.new(f"{self.at}.stream", x.kind, x.shape,
                            max(x.max_level, branch.max_level), unit)
        self.emit.ops.append(PutBack(x.name, self.index.name, branch.name, out.name))
        return out

    def _choose(self, scored: Value) -> Value:
        pruning, scale = self.emit.config.token_pruning, None
        if pruning.scorer not in SCORE_WEIGHTS:
            raise UsageError(f"tokens scored {pruning.scorer!r} have no integer program",
                             f"choose the scorer {' or '.join(SCORE_WEIGHTS)}")
        if scored.kind == Kind.MEMBRANE:
            unit = np.broadcast_to(self.emit.units[scored.name], scored.shape[2])
            scale = np.rint(unit / unit.max() * 32767).astype(np.int32)
        out = self.emit.new(f"{self.at}.index", Kind.INDEX, (1, self.kept, 1), self.all - 1)
        self.emit.ops.append(ChooseTokens(scored.name, out.name, pruning.window,
                                          *SCORE_WEIGHTS[pruning.scorer], scale))
        return out


def on_chosen(emit: Emitter, at: str, block: Callable[[Value], Value], x: Value) -> Value:
    """Block `at` on the tokens of x that score best."""
    return Choice(emit, at, x).over(block, x)
