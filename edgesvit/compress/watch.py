"""How far a long job is and how long it may still take, told now and then."""

import time
from collections.abc import Callable

Watch = Callable[[str, float], None]  # what is done, and the share of it that is


def quiet(what: str, share: float) -> None:
    """Tells nobody."""


class Told:
    """Passes a line to `note` when a stage begins to be measurable, then every `pause_s` seconds.

    The time left is that of the stage alone, as if its rest went as fast as what is done.
    """

    def __init__(self, note: Callable[[str], None], pause_s: float = 10.0):
        self.note, self.pause_s = note, pause_s
        self.stage, self.began_s, self.said_s, self.share = "", 0.0, 0.0, 0.0

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if what != self.stage or share < self.share:
            self.stage, self.began_s, self.said_s, self.share = what, now, now, share
            return
        if now - self.said_s >= self.pause_s and self.share < share < 1:
            self.said_s = now
            rest = (now - self.began_s) * (1 - share) / (share - self.share)
            self.note(f"{what}: {share:.0%}, about {readable(rest)} left")


def readable(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
