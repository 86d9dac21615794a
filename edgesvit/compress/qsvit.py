"""QSViT: one width of weights for each part of the network (arXiv 2504.00948).

The paper's four steps: study what each width costs in each part; take base widths from that study;
search on from them; build the network. What the paper leaves open is ours and named in
docs/compress.md. Choosing only: the rounding is `precision`'s, the judging `judge`'s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from edgesvit.compress import precision
from edgesvit.compress.judge import Judge, Verdict
from edgesvit.compress.prunable import Infeasible, drop
from edgesvit.compress.setting import Setting

FIXED_LADDER = (32, 16, 12, 10, *precision.WIDTHS)
Note = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`max_drop` in points of accuracy; `save_memory` in percent of float32 weights, 0: all it can.

    `protect` names units that keep the widest width; None: first layer and classifier. With
    `drift` a narrower width is not even judged where it moves the membranes that much further than
    the widths accepted so far, 1.2 being a fifth; 0 judges all.
    """

    max_drop: float = 2.1
    save_memory: float = 0.0
    grid: str = "channel"
    protect: tuple[str, ...] | None = None
    drift: float = 0.0


class Search:
    """One search: the units, what is known of each width, and the setting reached."""

    def __init__(self, judge: Judge, options: Options, note: Note):
        self.judge, self.options, self.note = judge, options, note
        self.ladder = precision.WIDTHS if options.grid == "channel" else FIXED_LADDER
        self.sizes = precision.layers(judge.card.config, judge.weights)
        self.units = precision.units(self.sizes)
        ends = (next(iter(self.units)), *(unit for unit in self.units if unit.startswith("head")))
        protected = ends if options.protect is None else options.protect
        self.free = [unit for unit in self.units if unit not in protected]

    def setting(self, widths: Mapping[str, int]) -> Setting:
        """Every layer of a unit gets the unit's width; the rest the widest of the ladder."""
        bits = {layer: widths.get(unit, self.ladder[0])
                for unit, names in self.units.items() for layer in names}
        return Setting(bits=bits, grid=self.options.grid)

    def memory_bits(self, widths: Mapping[str, int]) -> int:
        """Bits of all weights by the papers' count."""
        return precision.weight_bits(self.sizes, self.setting(widths).bits, self.ladder[0])

    def saved(self, widths: Mapping[str, int]) -> float:
        """Percent of the float32 weights' memory."""
        return 100 * (1 - self.memory_bits(widths)
                      / (precision.FLOAT_BITS * sum(self.sizes.values())))

    def study(self) -> dict[tuple[str, int], Verdict]:
        """Every width of every free unit with all others at the widest."""
        asked = [(unit, bits) for unit in self.free for bits in self.ladder[1:]]
        self.note(f"precision study: {len(asked)} settings")
        verdicts = self.judge.many([self.setting({unit: bits}) for unit, bits in asked])
        return dict(zip(asked, verdicts, strict=True))

    def base(self, study: Mapping[tuple[str, int], Verdict]) -> dict[str, int]:
        """The narrowest width of each unit whose loss alone is an even share of what may be lost.

        Losses of different units add up like independent errors: hence the root.
        """
        allowed = self.options.max_drop / (2 * len(self.free) ** 0.5)
        whole = self.judge.whole.accuracy
        return {unit: min((bits for bits in self.ladder[1:]
                           if whole - study[unit, bits].accuracy <= allowed),
                          default=self.ladder[0]) for unit in self.free}

    def holds(self, widths: Mapping[str, int], judge: Judge) -> bool:
        """Whether these widths keep the accuracy that was asked for.

        Where `judge` is not the one of the search, with a standard error to spare: a search ends
        where the limit binds, and noise would decide there.
        """
        verdict = judge(self.setting(widths))
        spare = 0.0 if judge is self.judge else verdict.standard_error
        return drop(judge.whole, verdict) + spare <= self.options.max_drop

    def repair(self, widths: dict[str, int], study: Mapping[tuple[str, int], Verdict],
               judge: Judge) -> dict[str, int]:
        """Widen, one step at a time, what the study says flips most images per bit saved.

        Just as far as `judge` finds the accuracy kept, by bisection: the widest keep it.
        """
        if self.holds(widths, judge):
            return widths
        path = [widths, *self._widened(widths, study)]
        broken, kept = 0, len(path) - 1
        while kept - broken > 1:
            middle = (broken + kept) // 2
            if self.holds(path[middle], judge):
                kept = middle
            else:
                broken = middle
        for unit, bits in path[kept].items():
            if bits != widths[unit]:
                self.note(f"{unit}: {bits} bits again")
        return path[kept]

    def relax(self, widths: dict[str, int], study: Mapping[tuple[str, int], Verdict]
              ) -> dict[str, int]:
        """Widen what `save_memory` does not need narrow; everything is where it says 0."""
        wanted = self.options.save_memory
        return [widths, *self._widened(widths, study, wanted)][-1] if wanted else widths

    def _widened(self, widths: dict[str, int], study: Mapping[tuple[str, int], Verdict],
                 saved: float = 0.0) -> Iterator[dict[str, int]]:
        """One step after the other, until every unit is as wide as saving so much allows."""
        while wider := {unit: bits for unit, old in widths.items() if old != self.ladder[0]
                        for bits in [self._next(old, -1)]
                        if self.saved(widths | {unit: bits}) >= saved}:

            def gain(unit: str, wider: Mapping[str, int] = wider,
                     widths: Mapping[str, int] = widths) -> float:
                won = self._harm(study, unit, widths[unit]) - self._harm(study, unit, wider[unit])
                return won / (self.memory_bits(widths | {unit: wider[unit]})
                              - self.memory_bits(widths))

            unit = max(wider, key=gain)
            widths = widths | {unit: wider[unit]}
            yield widths

    def narrow(self, widths: dict[str, int], study: Mapping[tuple[str, int], Verdict]
               ) -> dict[str, int]:
        """Narrow, one step at a time, what saves most bits per flipped image; keep what holds."""
        frozen: set[str] = set()
        drift = self._drift()
        while not (self.options.save_memory and self.saved(widths) >= self.options.save_memory):
            open_units = [unit for unit, bits in widths.items()
                          if unit not in frozen and bits != self.ladder[-1]]
            if not open_units:
                break
            tried = {unit: widths | {unit: self._next(widths[unit], 1)} for unit in open_units}

            def worth(unit: str, tried: Mapping[str, dict[str, int]] = tried,
                      widths: Mapping[str, int] = widths) -> float:
                more = (self._harm(study, unit, tried[unit][unit])
                        - self._harm(study, unit, widths[unit]))
                return (self.memory_bits(widths) - self.memory_bits(tried[unit])) / max(more, 1)

            unit = max(open_units, key=worth)
            if drift and (drift(self.setting(tried[unit]).bits)
                          > self.options.drift * drift(self.setting(widths).bits)):
                frozen.add(unit)
                self.note(f"{unit}: {tried[unit][unit]} bits move the membranes too far")
                continue
            if self.holds(tried[unit], self.judge):
                widths = tried[unit]
                accuracy = self.judge(self.setting(widths)).accuracy
                self.note(f"{unit}: {widths[unit]} bits, {accuracy:.2f} %, "
                          f"{self.saved(widths):.1f} % of float32 saved")
            else:
                frozen.add(unit)
        return widths

    def _drift(self) -> Callable[[Mapping[str, int]], float] | None:
        if not self.options.drift:
            return None
        from edgesvit.compress.drift import Drift

        return Drift(self.judge.card, self.judge.weights, self.judge.images())

    def _next(self, bits: int, step: int) -> int:
        return self.ladder[self.ladder.index(bits) + step]

    def _harm(self, study: Mapping[tuple[str, int], Verdict], unit: str, bits: int) -> int:
        """Search images that a width alone flips.

        Points lost are the difference of two numbers of about that size, mostly noise.
        """
        return 0 if bits == self.ladder[0] else study[unit, bits].flipped


def search(judge: Judge, options: Options, note: Note = lambda text: None,
           larger: Judge | None = None) -> Setting:
    """The narrowest widths found that lose at most `max_drop` points on the search images.

    Where `save_memory` is asked for, no narrower ones than that takes. `larger` judges on more
    images than `judge` and has the last word. Raises Infeasible where the widths save less than
    `save_memory`, or where none holds the accuracy.
    """
    found, last = Search(judge, options, note), larger or judge
    study = found.study()
    widths = found.narrow(found.repair(found.base(study), study, judge), study)
    widths = found.repair(found.relax(widths, study), study, last)
    setting, saved = found.setting(widths), found.saved(widths)
    lost = drop(last.whole, last(setting))
    if lost > options.max_drop or saved < options.save_memory:
        raise Infeasible(
            f"INFEASIBLE: {options.save_memory:g} % of float32 weights cannot be saved within "
            f"{options.max_drop:g} points of accuracy; best point: {saved:.2f} % saved, "
            f"{lost:.2f} points lost on {last.whole.images} search images",
            f"--save-memory {int(saved)}, or a larger --max-drop with --fine-tune 10", setting)
    return setting


def describe(judge: Judge, setting: Setting) -> Sequence[tuple[str, int, int]]:
    """Unit, weights, bits: what the report says of each."""
    sizes = precision.layers(judge.card.config, judge.weights)
    return [(unit, sum(sizes[layer] for layer in names), setting.bits[names[0]])
            for unit, names in precision.units(sizes).items()]
