"""What each part of a setting takes from a model, one line a group, layer or block."""

from collections.abc import Iterator

import msgspec

from edgesvit.compress.channels import groups
from edgesvit.compress.judge import Judge
from edgesvit.compress.setting import WHOLE, Setting


class Loss(msgspec.Struct, frozen=True):
    """One thing that was taken, judged with everything else whole.

    `before` and `after` are channels (of all heads), bits, or shares of tokens; `rate` is the share
    that went. `saved_bytes` are the program's, `drop` is in points on the search images.
    """

    lever: str
    name: str
    before: float
    after: float
    rate: float
    saved_bytes: int
    drop: float


def losses(judge: Judge, setting: Setting) -> list[Loss]:
    """The parts of a setting, in the order of its fields."""
    parts = list(_parts(judge, setting))
    whole, *verdicts = judge.many([WHOLE, *(alone for *_, alone in parts)])
    return [Loss(lever, name, before, after, 1 - after / before,
                 whole.program_bytes - verdict.program_bytes, whole.accuracy - verdict.accuracy)
            for (lever, name, before, after, _), verdict in zip(parts, verdicts, strict=True)]


def _parts(judge: Judge, setting: Setting) -> Iterator[tuple[str, str, float, float, Setting]]:
    of = {group.name: group for group in groups(judge.card.config)} if setting.kept else {}
    for name, kept in setting.kept.items():
        group = of[name]
        yield ("channels", name, group.channels, kept * group.copies,
               Setting(kept={name: kept}, fold_bn=setting.fold_bn))
    for layer, bits in setting.bits.items():
        before = judge.card.layer_bits.get(layer, judge.card.weight_bits)
        if bits != before:
            yield "bits", layer, before, bits, Setting(bits={layer: bits}, grid=setting.grid)
    for block, share in setting.tokens.items():
        yield "tokens", block, 1.0, share, Setting(tokens={block: share})
    if setting.time_steps is not None:
        yield ("time steps", "T", judge.card.config.time_steps, setting.time_steps,
               Setting(time_steps=setting.time_steps))
