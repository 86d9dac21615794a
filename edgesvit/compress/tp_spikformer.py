"""TP-Spikformer (ICLR 2026, arXiv 2603.00527): tokens that carry little stop early.

The paper sets the share of every block by hand. Here are its authors' presets, and a search in
their place: of all ways to stop more tokens, the one that loses least accuracy for each of them.
"""

import itertools
from collections.abc import Callable

import msgspec

from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.setting import Setting, apply
from edgesvit.compress.tokens import average_kept, shares_of
from edgesvit.cost.operations import work
from edgesvit.errors import UsageError
from edgesvit.models.config.token_pruning import token_blocks

STEP = 0.1
COUNTED_IMAGES = 4  # of which synaptic operations are counted

_SIDE = 14  # of the token grid at 224 pixels
# Sides of the kept square in the 8 blocks (SDT-V1), or shares of the side of grids of 56, 28 and 14
# tokens (the others), as in the authors' code; the name is the average of tokens kept.
_SDT_V1_SIDES = {"0.52": (12, 12, 10, 10, 10, 10, 8, 8), "0.66": (14, 12, 12, 12, 10, 10, 10, 10),
                 "0.75": (14, 14, 12, 12, 12, 12, 10, 10)}
_QKFORMER_SIDES = {"0.47": (0.8,) * 3 + (0.7,) * 7, "0.62": (0.9,) * 2 + (0.8,) * 5 + (0.75,) * 3,
                   "0.68": (0.95,) * 2 + (0.85,) * 4 + (0.8,) * 4, "0.71": (0.9,) * 6 + (0.85,) * 4,
                   "0.84": (1.0,) * 2 + (0.95,) * 4 + (0.9,) * 4}
_SDT_V3_SIDES = {"0.52": (0.8,) * 4 + (0.7,) * 4,
                 "0.54": (0.9,) + (0.8,) * 3 + (0.75,) + (0.65,) * 3,
                 "0.61": (0.9,) * 2 + (0.8,) * 3 + (0.75,) * 3,
                 "0.75": (0.95,) * 2 + (0.9,) * 5 + (0.8,)}


class Step(msgspec.Struct, frozen=True):
    """One move of the search, and what the model is after it."""

    block: str
    share: float
    average_kept: float
    sops: float
    verdict: Verdict


class Found(msgspec.Struct, frozen=True):
    """The setting that the search ends with and its moves; `sops` is that of the whole model."""

    setting: Setting
    verdict: Verdict
    average_kept: float
    whole: Verdict
    sops: float
    steps: tuple[Step, ...]


def presets(family: str) -> dict[str, tuple[float, ...]]:
    """The authors' shares of tokens, block by block, under the average that they keep.

    SDT-V1's are 8 blocks, QKFormer's 10, SDT-V3's 8; Spikformer, of which no preset was released,
    has SDT-V1's.
    """
    if family in ("sdt_v1", "spikformer"):
        return {name: tuple((side / _SIDE) ** 2 for side in sides)
                for name, sides in _SDT_V1_SIDES.items()}
    tables = {"qkformer": (_QKFORMER_SIDES, (56, 28, 28) + (14,) * 7),
              "sdt_v3": (_SDT_V3_SIDES, (14,) * 8)}
    if family not in tables:
        raise UsageError(f"TP-Spikformer has no preset for {family}",
                         "give the average of tokens to keep instead")
    table, grids = tables[family]
    return {name: tuple((int(grid * share) / grid) ** 2
                        for grid, share in zip(grids, shares, strict=True))
            for name, shares in table.items()}


def preset(config: msgspec.Struct, name: str) -> Setting:
    """A preset for a model of any depth: a block takes the share at its relative depth."""
    known = presets(config.__struct_config__.tag)
    if name not in known:
        raise UsageError(f"no preset {name!r}", f"the presets are {', '.join(known)}")
    blocks, shares = list(shares_of(config)), known[name]
    return Setting(tokens={block: shares[i * len(shares) // len(blocks)]
                           for i, block in enumerate(blocks)})


def uniform(config: msgspec.Struct, share: float) -> Setting:
    """The same share of tokens in every block."""
    return Setting(tokens=dict.fromkeys(shares_of(config), share))


def search(judge: Judge, keep: float, max_drop: float | None = None, step: float = STEP,
           monotone: bool = True, note: Callable[[str], None] = lambda line: None,
           start: Setting | None = None) -> Found:
    """Lower the shares of blocks, one move after the other, until the average kept is `keep`.

    Each move takes one block one, two, four ... steps down; the one that loses least accuracy for
    what it takes off the average is done. (Several steps at once, as a block may lose no more with
    a tenth of its tokens than with nine tenths.) With `monotone`, a prior of the paper, no block
    works on a smaller share than the next one of its stage; between stages the prior does not hold,
    as the early ones have four times the tokens to spare. Stops early, at the last good setting,
    where every move loses more than `max_drop` points of accuracy. The settings' other parts are
    those of `start`.
    """
    if not 0 < keep <= 1:
        raise UsageError(f"{keep:g} of the tokens cannot be kept", "choose more than 0, at most 1")
    here = start or Setting()
    counter = _Counter(judge)
    whole, sops = judge(here), counter(here)
    steps: list[Step] = []
    verdict, now = whole, counter.kept(here)
    while now > keep + 1e-9:
        moves = _moves(here, judge.card.config, step, monotone,
                       lambda setting: counter.kept(setting) <= keep + 1e-9)
        options = [msgspec.structs.replace(here, tokens=here.tokens | move) for move in moves]
        verdicts, kept = judge.many(options), [counter.kept(option) for option in options]
        allowed = [i for i in range(len(moves))
                   if max_drop is None or whole.accuracy - verdicts[i].accuracy <= max_drop]
        if not allowed:
            break
        best = min(allowed, key=lambda i: _price(verdict, now, verdicts[i], kept[i]))
        here, verdict, now = options[best], verdicts[best], kept[best]
        [(block, share)] = moves[best].items()
        steps.append(Step(block, share, now, counter(here), verdict))
        note(f"{block} to {share:.2f} of its tokens: {now:.3f} kept on average, "
             f"{verdict.accuracy:.2f} %, {steps[-1].sops / 1e6:.2f} M SOPs")
    return Found(here, verdict, now, whole, sops, tuple(steps))


class _Counter:
    """Synaptic operations and tokens of a setting."""

    def __init__(self, judge: Judge):
        self.judge, self.images = judge, judge.images()[:COUNTED_IMAGES]

    def __call__(self, setting: Setting) -> float:
        return sum(done.sops for done in work(self.judge.program(setting), self.images))

    def kept(self, setting: Setting) -> float:
        card, _ = apply(setting, self.judge.card, self.judge.weights)
        return average_kept(card.config)


def _moves(here: Setting, config: msgspec.Struct, step: float, monotone: bool,
           enough: Callable[[Setting], bool]) -> list[dict[str, float]]:
    """Of each block the shares one, two, four ... steps down, or just `enough`; never nothing."""
    shares, blocks = shares_of(config) | here.tokens, token_blocks(config)
    moves = []
    for block, behind in itertools.zip_longest(blocks, blocks[1:]):
        bound = monotone and behind is not None and behind.grid == block.grid
        least = shares[behind.name] - 1e-9 if bound else 1e-6
        for n in itertools.count(1):
            move = {block.name: round(shares[block.name] - n * step, 6)}
            if move[block.name] < least:
                break
            last = enough(msgspec.structs.replace(here, tokens=here.tokens | move))
            if last or n.bit_count() == 1:
                moves.append(move)
            if last:
                break
    return moves


def _price(before: Verdict, kept: float, after: Verdict, left: float) -> tuple[float, float]:
    """Accuracy lost for each token; what stops none (a step of a few tokens) comes last."""
    stopped, lost = kept - left, before.accuracy - after.accuracy
    return (lost / stopped if stopped > 0 else float("inf"), left)
