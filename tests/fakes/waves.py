"""Currents whose charge is known exactly."""

from collections.abc import Callable
from dataclasses import dataclass

VOLTS = 3.3


@dataclass(frozen=True)
class Wave:
    """`current` in amperes at a time, `charge` in coulombs since 0; at VOLTS."""

    current: Callable[[float], float]
    charge: Callable[[float], float]

    def energy_j(self, begin_s: float, end_s: float) -> float:
        return VOLTS * (self.charge(end_s) - self.charge(begin_s))

    @staticmethod
    def constant(amperes: float) -> "Wave":
        return Wave(lambda t: amperes, lambda t: amperes * t)

    @staticmethod
    def square(low: float, high: float, period_s: float) -> "Wave":
        """First low, then high, half a period each."""
        def charge(t: float) -> float:
            whole, rest = divmod(t, period_s)
            return (whole * period_s * (low + high) / 2 + low * min(rest, period_s / 2)
                    + high * max(rest - period_s / 2, 0))
        return Wave(lambda t: low if t % period_s < period_s / 2 else high, charge)

    @staticmethod
    def ramp(start: float, per_s: float) -> "Wave":
        return Wave(lambda t: start + per_s * t, lambda t: start * t + per_s * t * t / 2)

    @staticmethod
    def steps(levels: tuple[float, ...], each_s: float) -> "Wave":
        """One level after the other, the last for ever."""
        def at(t: float) -> int:
            return min(int(t / each_s), len(levels) - 1)

        def charge(t: float) -> float:
            return sum(levels[:at(t)]) * each_s + levels[at(t)] * (t - at(t) * each_s)
        return Wave(lambda t: levels[at(t)], charge)
