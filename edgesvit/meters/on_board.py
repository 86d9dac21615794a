"""Meters that are part of the board: read there by firmware/linux/sampler.c while it works.

The sampler starts the measured program and passes its lines on, with `sample NANOSECONDS TEXT`
lines between them on the same clock (CLOCK_MONOTONIC), so no two clocks have to be matched.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.meters.samples import About, Samples

Run = Callable[[list[str]], list[str]]  # runs a short command on the board: its lines
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_TOTAL")  # the whole board, where there is one of them


@dataclass(frozen=True)
class OnBoard:
    """What the sampler is told, and how its texts become rails: name -> watts, or None if damaged.

    Where `total_rails` is set only those of its names that exist count: they hold the others.
    """

    about: About
    sampler: tuple[str, ...]
    read: Callable[[str], dict[str, float] | None]
    total_rails: tuple[str, ...] = ()

    def samples(self, lines: Iterable[str]) -> Samples:
        """From the sampler's lines; the others are left alone. Unreachable when there is none."""
        times, rows, damaged = [], [], 0
        for line in lines:
            word, _, rest = line.partition(" ")
            if word != "sample":
                continue
            stamp, _, text = rest.partition(" ")
            rails = self.read(text) if stamp.isdigit() else None
            # A text without the rails of the first is cut or damaged.
            if not rails or (rows and rails.keys() != rows[0].keys()):
                damaged += 1
                continue
            times.append(int(stamp) * 1e-9)
            rows.append(rails)
        if not rows:
            raise Unreachable(f"{self.about.kind}: the board gave no sample of its power"
                              f"{f', {damaged} were damaged' if damaged else ''}",
                              "edgesvit doctor --target NAME")
        watts = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        counted = [name for name in self.total_rails if name in watts] or list(watts)
        total = np.sum([watts[name] for name in counted], 0)
        return Samples(np.array(times), total, damaged=damaged, rails_w=watts)


def lines_or_none(run: Run, argv: Sequence[str]) -> list[str] | None:
    """What a command on the board prints, None when it fails there; Unreachable passes."""
    try:
        return run(list(argv))
    except Unreachable:
        raise
    except EdgesvitError:
        return None
