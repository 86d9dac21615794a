"""A judge whose answers follow from a formula: what a policy decides on it can be worked out."""

from edgesvit.compress.channels import Group
from edgesvit.compress.judge import Verdict
from edgesvit.compress.prunable import Prunable
from edgesvit.compress.setting import Setting

FIXED_BYTES = 1000  # that no group holds


class Formula:
    """Groups of 100 channels: name -> (parameters, points lost at rate 1, growing with its square).

    A parameter is a byte. Losses of several groups add up.
    """

    def __init__(self, groups: dict[str, tuple[int, float]], images: int = 1000):
        self.groups, self.images, self.asked = groups, images, []
        self.model = Prunable(tuple(Group(name, 100, 1, (), ()) for name in groups),
                              {name: size for name, (size, _) in groups.items()}, round_to=1)

    @property
    def whole(self) -> Verdict:
        return self(Setting())

    def __call__(self, setting: Setting) -> Verdict:
        return self.many([setting])[0]

    def many(self, settings: list[Setting]) -> list[Verdict]:
        return [self._verdict(setting) for setting in settings]

    def program_bytes(self, setting: Setting) -> int:
        return self._answer(setting).program_bytes

    def _verdict(self, setting: Setting) -> Verdict:
        self.asked.append(setting.key())
        return self._answer(setting)

    def _answer(self, setting: Setting) -> Verdict:
        gone = {name: 1 - kept / 100 for name, kept in setting.kept.items()}
        lost = sum(self.groups[name][1] * rate**2 for name, rate in gone.items())
        saved = sum(self.groups[name][0] * rate for name, rate in gone.items())
        total = FIXED_BYTES + sum(size for size, _ in self.groups.values())
        left = round(total - saved)
        return Verdict(90 - lost, self.images, left, left, 0, round(self.images * lost / 100))
