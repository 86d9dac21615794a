"""TP-Spikformer (ICLR 2026, arXiv 2603.00527): tokens that carry little stop early.

The paper sets the share of every block by hand. Here are its authors' presets, and a search in
their place: the block goes down a step that loses least accuracy for each synaptic operation saved.
"""

from collections.abc import Callable

import msgspec

from edgesvit.compress.judge import Judge, Verdict, search_images
from edgesvit.compress.setting import Setting, apply
from edgesvit.compress.tokens import average_kept, shares_of
from edgesvit.cost.operations import work
from edgesvit.errors import UsageError

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
    """Lower the shares of blocks, one step after the other, until the average kept is `keep`.

    Each move is the one that loses least accuracy for each synaptic operation it saves; scoring the
    tokens costs operations too. With `monotone`, a prior of the paper, no block works on a smaller
    share than the next one. Stops early, at the last good setting, where `max_drop` points of
    accuracy are lost. The settings' other parts are those of `start`.
    """
    if not 0 < keep <= 1:
        raise UsageError(f"{keep:g} of the tokens cannot be kept", "choose more than 0, at most 1")
    here = start or Setting()
    counter = _Counter(judge)
    whole, sops = judge(here), counter(here)
    steps: list[Step] = []
    verdict, now = whole, sops
    while counter.kept(here) > keep + 1e-9:
        moves = _moves(here, shares_of(judge.card.config), step, monotone)
        if not moves:
            break
        options = [msgspec.structs.replace(here, tokens=here.tokens | move) for move in moves]
        verdicts, counts = judge.many(options), [counter(option) for option in options]
        best = min(range(len(moves)), key=lambda i: _price(verdict, now, verdicts[i], counts[i]))
        if max_drop is not None and whole.accuracy - verdicts[best].accuracy > max_drop:
            break
        here, verdict, now = options[best], verdicts[best], counts[best]
        [(block, share)] = moves[best].items()
        steps.append(Step(block, share, counter.kept(here), now, verdict))
        note(f"{block} to {share:.2f} of its tokens: {steps[-1].average_kept:.3f} kept on average, "
             f"{verdict.accuracy:.2f} %, {now / 1e6:.2f} M SOPs")
    return Found(here, verdict, counter.kept(here), whole, sops, tuple(steps))


class _Counter:
    """Synaptic operations and tokens of a setting."""

    def __init__(self, judge: Judge):
        _, spec, images, seed = judge.task
        self.judge, self.images = judge, search_images(spec, images, seed).images[:COUNTED_IMAGES]

    def __call__(self, setting: Setting) -> float:
        return sum(done.sops for done in work(self.judge.program(setting), self.images))

    def kept(self, setting: Setting) -> float:
        card, _ = apply(setting, self.judge.card, self.judge.weights)
        return average_kept(card.config)


def _moves(here: Setting, whole: dict[str, float], step: float, monotone: bool
           ) -> list[dict[str, float]]:
    """One block each, a step further down; never to nothing."""
    shares = whole | here.tokens
    names, moves = list(shares), []
    for i, name in enumerate(names):
        lower = round(shares[name] - step, 6)
        behind = shares[names[i + 1]] if i + 1 < len(names) else 0.0
        if lower > 0 and (not monotone or lower >= behind - 1e-9):
            moves.append({name: lower})
    return moves


def _price(before: Verdict, sops: float, after: Verdict, left: float) -> tuple[float, float]:
    """Accuracy lost for an operation saved; what saves nothing comes last."""
    saved = sops - left
    lost = before.accuracy - after.accuracy
    return (lost / saved if saved > 0 else float("inf"), left)
