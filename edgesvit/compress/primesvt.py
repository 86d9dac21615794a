"""PrimeSVT: layers pruned one after the other, the largest first (arXiv 2606.03428).

The paper's order: sort layers by size; find the robust ones by probing; take as targets the set
with the best product of accuracy and memory gain; compress the targets from the largest to the
smallest under the user's limits, coarse then fine. What it leaves open is ours and named in
docs/compress.md. Choosing only: tensors are `channels`' work, judging `judge`'s.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from edgesvit.compress.judge import Verdict
from edgesvit.compress.prunable import Judging, Note, Prunable, drop, infeasible, saved, smaller
from edgesvit.compress.setting import WHOLE, Setting

COARSE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
FINE_STEP = 0.025
PROBES = (0.2, 0.4, 0.6)
MOST_SETS = 8  # target sets that are scored; of more groups every second, third ...
CREDITS = (0.1, 0.4, 1.0)  # shares of the accuracy that may be spent before memory is saved
PUBLISHED_SAVING = 26.68  # percent

Budget = Literal["greedy", "proportional", "earned"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`max_drop` in points; `save_memory` in percent of the program's bytes, 0: all it can.

    `budget`: 'greedy' lets the first layer spend all of `max_drop`; 'proportional' caps what the
    layers up to the j-th may lose together at their share of the targets' parameters; 'earned' at
    the share of the wanted memory that they have saved.
    """

    max_drop: float = 3.0
    save_memory: float = PUBLISHED_SAVING
    budget: Budget = "earned"
    coarse: tuple[float, ...] = COARSE
    probes: tuple[float, ...] = PROBES


class Search:
    """One search: what is asked, and the rates accepted so far."""

    def __init__(self, judge: Judging, model: Prunable, options: Options, note: Note):
        self.judge, self.model, self.options, self.note = judge, model, options, note
        self.rates: dict[str, float] = {}
        names = model.names
        # Largest first; of equal ones the later layer.
        self.order = sorted(names, key=lambda name: (-model.parameters[name], -names.index(name)))

    @property
    def done(self) -> bool:
        """Whether the accepted rates save what was asked."""
        target = self.options.save_memory
        return bool(target) and saved(self.judge.whole, self.judge(self.now())) >= target

    def now(self, name: str = "", rate: float = 0.0) -> Setting:
        """The accepted rates, and one more."""
        return self.model.setting(self.rates | ({name: rate} if name else {}))

    def targets(self) -> list[str]:
        """The set of most robust groups with the best score B, largest group first.

        Robustness is the mean share of the accuracy left over the probed rates; B(S) =
        (accuracy / accuracy of the whole) x share of memory saved, S pruned at the middle probe.
        """
        judge, options = self.judge, self.options
        pairs = [(name, rate) for name in self.order for rate in options.probes]
        self.note(f"probing {len(self.order)} groups at {len(options.probes)} rates")
        whole, *probed = judge.many([WHOLE, *(self.model.setting({name: rate})
                                              for name, rate in pairs)])
        robust = _mean_robustness(whole, dict(zip(pairs, probed, strict=True)))
        ranked = sorted(self.order, key=lambda name: -robust[name])
        counts = range(len(ranked), 0, -math.ceil(len(ranked) / MOST_SETS))
        for rate in sorted(options.probes, key=lambda rate: abs(rate - options.probes[1])):
            sets = [ranked[:count] for count in counts]
            verdicts = judge.many([self.model.setting(dict.fromkeys(s, rate)) for s in sets])
            scored = [(_score(whole, verdict), chosen)
                      for chosen, verdict in zip(sets, verdicts, strict=True)
                      if drop(whole, verdict) <= options.max_drop]
            if scored:
                best = max(scored, key=lambda pair: pair[0])[1]
                return [name for name in self.order if name in best]
        return [name for name in self.order if name in ranked[:counts[-1]]]

    def compress(self, names: Sequence[str], budget: Budget, credit: float = CREDITS[0]) -> None:
        """Prune these groups one after the other, each as far as the budget allows."""
        most, asked = self.options.max_drop, self.options.save_memory or self._widest
        total, seen = sum(self.model.parameters[name] for name in names), 0

        def allowed(verdict: Verdict) -> float:
            if budget == "greedy":
                return most
            if budget == "proportional":
                return most * seen / total
            earned = min(saved(self.judge.whole, verdict) / asked, 1.0)
            return most * (credit + (1 - credit) * earned)

        for name in names:
            if self.done:
                return
            seen += self.model.parameters[name]
            rate = self._rate(name, allowed)
            if self.now(name, rate) != self.now():  # a rate below one lane takes nothing
                self.rates.pop(name, None)  # the last one pruned stands last
                self.rates[name] = rate
                verdict = self.judge(self.now())
                self.note(f"{name} at {rate:g}: {saved(self.judge.whole, verdict):.2f} % saved, "
                          f"{drop(self.judge.whole, verdict):.2f} points lost")

    @property
    def _widest(self) -> float:
        """The most that any rates save, in percent."""
        rates = dict.fromkeys(self.model.names, max(self.options.coarse))
        return self._saved(self.model.setting(rates))

    def _saved(self, setting: Setting) -> float:
        """In percent of the program's bytes, which takes no judging."""
        return smaller(self.judge.whole, self.judge.program_bytes(setting))

    def _rate(self, name: str, allowed: Callable[[Verdict], float]) -> float:
        """The highest rate of a group that stays within the budget, coarse then fine; 0: none.

        Accuracy falls as the rate rises, so both are bisected. Where less than that rate saves
        what was asked, the lowest that does: pruning on would only lose more.
        """
        def good(rate: float) -> bool:
            verdict = self.judge(self.now(name, rate))
            return drop(self.judge.whole, verdict) <= allowed(verdict)

        def enough(rate: float) -> bool:
            return self._saved(self.now(name, rate)) >= self.options.save_memory

        start = self.rates.get(name, 0.0)
        coarse = _last(good, [rate for rate in self.options.coarse if rate > start], start)
        after = [rate for rate in (*self.options.coarse, 1.0) if rate > coarse][0]
        fine = [round(coarse + FINE_STEP * i, 4) for i in range(1, 40)
                if coarse + FINE_STEP * i < after - 1e-9]
        reached = _last(good, fine, coarse)
        if not self.options.save_memory or not enough(reached):
            return reached
        grid = [round(FINE_STEP * i, 4) for i in range(1, 40) if start < FINE_STEP * i <= reached]
        below = _last(lambda rate: not enough(rate), grid, start)
        return min((rate for rate in grid if rate > below), default=reached)

    def verify(self, larger: Judging) -> None:
        """Take back what was pruned last, in fine steps, until a larger sample of images agrees."""
        def lost(name: str = "", rate: float = 0.0) -> float:
            return drop(larger.whole, larger(self.now(name, rate)))

        while self.rates and lost() > self.options.max_drop:
            name, rate = list(self.rates.items())[-1]
            lower = [round(FINE_STEP * i, 4) for i in range(40) if FINE_STEP * i < rate - 1e-9]
            self.note(f"{lost():.2f} points lost on {larger.whole.images} images: {name} is taken "
                      "back")
            self.rates[name] = _last(
                lambda rate, name=name: lost(name, rate) <= self.options.max_drop, lower, 0.0)
            if not self.rates[name]:
                del self.rates[name]


def search(judge: Judging, model: Prunable, options: Options, note: Note = lambda text: None,
           larger: Judging | None = None) -> Setting:
    """The rates that save enough within the accuracy; Infeasible with the best point reached.

    `larger` judges on more images than `judge`, and may take back what was accepted last.
    """
    if options.max_drop <= 0:
        return WHOLE
    found = Search(judge, model, options, note)
    targets = found.targets()
    note(f"targets, largest first: {', '.join(targets)}")
    found.compress(targets, options.budget)
    if options.save_memory:  # what the targets left of the budget, the other groups may spend
        others = [name for name in found.order if name not in targets]
        if options.budget == "earned":
            found.compress(others, "earned")
            for credit in CREDITS[1:]:
                found.compress(found.order, "earned", credit)
        else:
            found.compress(others, "greedy")
    if larger:
        found.verify(larger)
    if options.save_memory and not found.done:
        widest = model.setting(dict.fromkeys(model.names, max(options.coarse)))
        raise infeasible(judge, found.now(), options.max_drop, options.save_memory, widest)
    return found.now()


def _mean_robustness(whole: Verdict, probed: Mapping[tuple[str, float], Verdict]
                     ) -> dict[str, float]:
    shares: dict[str, list[float]] = {}
    for (name, _), verdict in probed.items():
        shares.setdefault(name, []).append(verdict.accuracy / whole.accuracy)
    return {name: sum(of) / len(of) for name, of in shares.items()}


def _score(whole: Verdict, verdict: Verdict) -> float:
    return verdict.accuracy / whole.accuracy * saved(whole, verdict) / 100


def _last(good: Callable[[float], bool], rates: Sequence[float], otherwise: float) -> float:
    """The last of rising `rates` that is good when those before it are; else `otherwise`."""
    low, high = 0, len(rates)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if good(rates[middle]) else (low, middle)
    return rates[low - 1] if low else otherwise
