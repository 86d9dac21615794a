"""The published methods by name: from what a person asks to the setting that is found."""

from collections.abc import Callable
from typing import Literal

import msgspec

from edgesvit.compress import fit, levers, primesvt, psvit, qsvit, tp_spikformer
from edgesvit.compress.fine_tune import LEARNING_RATE
from edgesvit.compress.fit import Found
from edgesvit.compress.judge import CALIBRATION_IMAGES, SEARCH_IMAGES, Judge
from edgesvit.compress.prunable import DEFAULT_STEP, Note, Prunable, prunable
from edgesvit.compress.setting import Setting
from edgesvit.compress.watch import Told
from edgesvit.errors import UsageError
from edgesvit.profiles import Profile
from edgesvit.targets import Target

# What a search found is verified on so many times the images; QSViT keeps a standard error to
# spare, which has to be small beside limits of half a point.
LARGER = 3
LARGER_QSVIT = 8


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks of a method; what it has no use for is ignored.

    `max_drop` in points and `save_memory` in percent (0: all it can); None: as published.
    `groups` are kinds of channel groups, () for all but residual streams; `round_to` the multiple
    of channels to keep; `fold_bn` as in Setting.
    `grid` and `drift` are qsvit's; `keep_tokens` (an average share, or the name of a preset)
    tp-spikformer's. fit's are `levers`, `save_instructions` in percent, `targets`, `profile`, and
    for rounds with training (0: none) their number, the epochs `between`, and `rate_weight`.
    Fine-tuning goes up to `learning_rate`.
    Batch norms are recalibrated on `calibration` images, 0 for none (see Judge).
    Settings are judged on the Dask `cluster` at that address, '' for this machine.
    """

    max_drop: float | None = None
    save_memory: float | None = None
    groups: tuple[str, ...] = ()
    round_to: int = DEFAULT_STEP
    fold_bn: bool = True
    budget: primesvt.Budget = primesvt.Options().budget
    grid: Literal["channel", "fixed-round", "fixed-truncate"] = "channel"
    drift: float = 0.0
    keep_tokens: str = "0.6"
    levers: tuple[str, ...] = levers.KINDS
    save_instructions: float = 0.0
    images: int = SEARCH_IMAGES
    seed: int = 0
    calibration: int = CALIBRATION_IMAGES
    targets: tuple[Target, ...] = ()
    profile: Profile | None = None
    rounds: int = 0
    between: int = 1
    learning_rate: float = LEARNING_RATE
    rate_weight: float = 0.0
    cluster: str = ""


def _psvit(judge: Judge, request: Request, note: Note) -> Setting:
    options = psvit.Options(**_limits(request))
    return psvit.search(judge, _prunable(judge, request), options, note, _larger(judge, request))


def _primesvt(judge: Judge, request: Request, note: Note) -> Setting:
    options = primesvt.Options(**_limits(request), budget=request.budget)
    return primesvt.search(judge, _prunable(judge, request), options, note,
                           _larger(judge, request))


def _qsvit(judge: Judge, request: Request, note: Note) -> Setting:
    options = qsvit.Options(**_limits(request), grid=request.grid, drift=request.drift)
    return qsvit.search(judge, options, note, _larger(judge, request, LARGER_QSVIT))


def _tp_spikformer(judge: Judge, request: Request, note: Note) -> Setting:
    name = request.keep_tokens
    config = judge.card.config
    if name.startswith("preset-"):
        return tp_spikformer.preset(config, name.removeprefix("preset-"))
    try:
        share = float(name)
    except ValueError:
        raise UsageError(f"--keep-tokens {name} is no share of tokens",
                         "for example 0.6, or preset-0.52") from None
    return tp_spikformer.search(judge, share, request.max_drop, note=note).setting


def fit_options(request: Request) -> fit.Options:
    """What is asked of the joint search; UsageError where no board is named."""
    if not request.targets or request.profile is None:
        raise UsageError("fit needs to know the board", "add --target nucleo-f446re")
    allowed = (request.max_drop, request.profile.max_accuracy_drop, 1.0)
    return fit.Options(
        max_drop=next(drop for drop in allowed if drop is not None), groups=request.groups,
        save_memory=request.save_memory or 0.0, save_instructions=request.save_instructions,
        levers=request.levers)


def _fit(judge: Judge, request: Request, note: Note) -> Found:
    options = fit_options(request)
    return fit.search(judge, request.targets, request.profile, options, note, Told(note))


# Each returns the setting it found, or fit all that it found; Infeasible where nothing meets the
# constraints.
METHODS: dict[str, Callable[[Judge, Request, Note], Setting | Found]] = {
    "psvit": _psvit,
    "primesvt": _primesvt,
    "qsvit": _qsvit,
    "tp-spikformer": _tp_spikformer,
    "fit": _fit,
}


def _larger(judge: Judge, request: Request, times: int = LARGER) -> Judge | None:
    """Of images drawn anew, and more: a search fits its choice to the noise of those it has.

    None where the training split has no more.
    """
    larger = Judge(judge.source, judge.task[1], judge.store, times * request.images,
                   request.seed + 1, judge.jobs, judge.cluster, request.calibration)
    return larger if len(larger.images()) > len(judge.images()) else None


def _prunable(judge: Judge, request: Request) -> Prunable:
    return prunable(judge.card.config, judge.weights, request.groups, request.round_to,
                    request.fold_bn)


def _limits(request: Request) -> dict[str, float]:
    """The limits that were asked for; a method has the published ones for the others."""
    return {name: value for name in ("max_drop", "save_memory")
            if (value := getattr(request, name)) is not None}
