"""PSViT: sensitivity of every layer, uniform pruning, then fine-grained rates (arXiv 2606.03257).

The paper's order: profile how accuracy and size answer to each layer's rate; prune uniformly;
override the rates where the profile says a layer bears more or less; prune once. What it leaves
open (rates, tolerance of a layer, how rates are scaled to the targets) is ours and named in
docs/compress.md. Choosing only: tensors are `channels`' work, judging `judge`'s.
"""

from collections.abc import Callable

import msgspec

from edgesvit.compress.judge import Verdict
from edgesvit.compress.prunable import Judging, Note, Prunable, drop, infeasible, saved
from edgesvit.compress.setting import WHOLE, Setting

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BISECTIONS = 6
PUBLISHED_SAVING = 22.4  # percent


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`max_drop` in points; `save_memory` in percent of the program's bytes, 0: all it can.

    A layer is called robust up to the highest rate at which it alone loses at most `tolerance`
    points, and sensitive when at the uniform rate it loses more than twice that.
    """

    max_drop: float = 3.0
    save_memory: float = PUBLISHED_SAVING
    tolerance: float = 0.5
    rates: tuple[float, ...] = RATES


class Profile(msgspec.Struct, frozen=True):
    """What was measured: the uniform curve, and every group alone at every rate."""

    uniform: dict[float, Verdict]
    alone: dict[tuple[str, float], Verdict]


def search(judge: Judging, model: Prunable, options: Options, note: Note = lambda text: None,
           larger: Judging | None = None) -> Setting:
    """The rates that save enough within the accuracy; Infeasible with the best point reached.

    `larger` judges on more images than `judge`, and may refuse settings that were found.
    """
    if options.max_drop <= 0:
        return WHOLE
    found = profile(judge, model, options, note)
    base = uniform_rate(judge.whole, found, options)
    rates = fine_grained(judge.whole, found, model, options, base)
    note(f"uniform rate {base:g}; fine-grained: "
         + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
    chosen = _scaled(judge, model, options, rates, note) + _priced(judge, model, options, found)
    settings = [WHOLE, *(model.setting(dict.fromkeys(model.names, rate)) for rate in options.rates),
                *chosen]
    return _best(judge, model, options, settings, larger or judge)


def profile(judge: Judging, model: Prunable, options: Options, note: Note) -> Profile:
    """The uniform sweep and the sensitivity of every group, all judged side by side."""
    uniform = [model.setting(dict.fromkeys(model.names, rate)) for rate in options.rates]
    pairs = [(name, rate) for name in model.names for rate in options.rates]
    alone = [model.setting({name: rate}) for name, rate in pairs]
    note(f"sensitivity of {len(model.names)} groups at {len(options.rates)} rates")
    verdicts = judge.many([WHOLE, *uniform, *alone])[1:]
    return Profile(dict(zip(options.rates, verdicts, strict=False)),
                   dict(zip(pairs, verdicts[len(uniform):], strict=True)))


def uniform_rate(whole: Verdict, found: Profile, options: Options) -> float:
    """The highest uniform rate that loses at most half of what may be lost; 0 if none does."""
    return max((rate for rate, verdict in found.uniform.items()
                if drop(whole, verdict) <= options.max_drop / 2), default=0.0)


def fine_grained(whole: Verdict, found: Profile, model: Prunable, options: Options, base: float
                 ) -> dict[str, float]:
    """Robust groups are raised to the rate they bear alone, sensitive ones are left whole."""
    rates = {}
    for name in model.names:
        lost = {rate: drop(whole, found.alone[name, rate]) for rate in options.rates}
        robust = max((rate for rate in options.rates if lost[rate] <= options.tolerance),
                     default=0.0)
        sensitive = base > 0 and lost[base] > 2 * options.tolerance
        rates[name] = 0.0 if sensitive else max(base, robust)
    return rates


def _scaled(judge: Judging, model: Prunable, options: Options, rates: dict[str, float], note: Note
            ) -> list[Setting]:
    """The one-shot setting and those of its rates times a common factor, found by bisection.

    Too inaccurate: the largest factor that is not. Too large: the smallest that saves enough.
    """
    highest = max(options.rates)

    def at(factor: float) -> Setting:
        return model.setting({name: min(rate * factor, highest) for name, rate in rates.items()})

    tried = [at(1.0)]

    def accurate(factor: float) -> bool:
        tried.append(at(factor))
        return drop(judge.whole, judge(tried[-1])) <= options.max_drop

    def small(factor: float) -> bool:
        tried.append(at(factor))
        return saved(judge.whole, judge(tried[-1])) >= options.save_memory

    if not any(rates.values()):
        return tried
    most = highest / min(rate for rate in rates.values() if rate)
    if not accurate(1.0):
        note("too inaccurate at once: rates are scaled down")
        _bisect(lambda factor: not accurate(factor), 0.0, 1.0)
    elif not options.save_memory:
        _bisect(lambda factor: not accurate(factor), 1.0, most)
    elif small(1.0):
        _bisect(small, 0.0, 1.0)
    else:
        note("saves too little at once: rates are scaled up")
        _bisect(small, 1.0, most)
    return tried


def _priced(judge: Judging, model: Prunable, options: Options, found: Profile) -> list[Setting]:
    """Settings by sensitivity x memory: at a price in points per percent, every group has the rate
    at which what it loses alone is least above what the memory it saves is worth.

    Bisected: the lowest price at which enough is saved (or, asked for all it can, too much lost).
    """
    whole = judge.whole
    curves = {name: [(0.0, 0.0, 0.0)] + [
        (rate, max(drop(whole, found.alone[name, rate]), 0.0),
         saved(whole, found.alone[name, rate])) for rate in options.rates] for name in model.names}
    prices = sorted({(lost - less) / (gain - fewer) for curve in curves.values()
                     for _, less, fewer in curve for _, lost, gain in curve
                     if gain > fewer and lost >= less})
    tried: list[Setting] = []

    def reached(index: float) -> bool:
        price = prices[int(index)] * (1 + 1e-9)
        tried.append(model.setting({
            name: min(curve, key=lambda point: (point[1] - price * point[2], -point[0]))[0]
            for name, curve in curves.items()}))
        verdict = judge(tried[-1])
        if options.save_memory:
            return saved(whole, verdict) >= options.save_memory
        return drop(whole, verdict) > options.max_drop

    if prices:
        _bisect(reached, 0, len(prices))
    return tried


def _bisect(reached: Callable[[float], bool], low: float, high: float) -> None:
    """Close in on the lowest factor in low..high that has `reached`."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)


def _best(judge: Judging, model: Prunable, options: Options, settings: list[Setting],
          larger: Judging) -> Setting:
    """The most accurate setting that saves enough (asked for all it can: the smallest).

    The first in that order that is within the accuracy on the `larger` sample too.
    """
    whole = judge.whole
    judged = list(zip(settings, judge.many(settings), strict=True))
    within = [pair for pair in judged if drop(whole, pair[1]) <= options.max_drop]

    def smallest(pair: tuple[Setting, Verdict]) -> tuple[float, float]:
        return pair[1].program_bytes, -pair[1].accuracy

    def most_accurate(pair: tuple[Setting, Verdict]) -> tuple[float, float]:
        return -pair[1].accuracy, pair[1].program_bytes

    def agreed(pairs: list[tuple[Setting, Verdict]], order: Callable) -> Setting | None:
        return next((setting for setting, _ in sorted(pairs, key=order)
                     if drop(larger.whole, larger(setting)) <= options.max_drop), None)

    enough = [pair for pair in within if saved(whole, pair[1]) >= options.save_memory]
    found = agreed(enough, most_accurate if options.save_memory else smallest)
    if found is None:
        widest = model.setting(dict.fromkeys(model.names, max(options.rates)))
        raise infeasible(larger, agreed(within, smallest) or WHOLE, options.max_drop,
                         options.save_memory, widest)
    return found
