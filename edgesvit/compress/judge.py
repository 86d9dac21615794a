"""What a setting costs and what it still gets right: every answer is kept on disk.

Accuracy is that of the integer program on this machine's C runtime, on images of the training split
that are set aside for searching; the test split is for the final figure alone. A search that was
killed finds its earlier answers again and goes on where it stopped.
"""

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from joblib import Parallel, delayed

from edgesvit.boards.local import HostProgram
from edgesvit.compress.channels import strongest_of
from edgesvit.compress.cluster import on_cluster
from edgesvit.compress.setting import WHOLE, Setting, apply
from edgesvit.cost.memory import parameters
from edgesvit.data import Dataset, load
from edgesvit.data.dataset import stratified
from edgesvit.disk import append_line, read_lines
from edgesvit.evaluate import unchecked_program
from edgesvit.program.file import VERSION, to_bytes
from edgesvit.program.ops import Check, Program
from edgesvit.program.plan import plan
from edgesvit.run_folder import ModelCard, RunFolder
from edgesvit.threads import one_torch_thread

if TYPE_CHECKING:
    from edgesvit.compress.rounding import Rounder

SEARCH_IMAGES = 2000
CALIBRATION_IMAGES = 128
CALIBRATION_SHARE = 1 / 8  # of a small training split at most

_WHOLE_LOCK = threading.Lock()
_WHOLE_LOGITS: dict[tuple, np.ndarray] = {}


class Verdict(msgspec.Struct, frozen=True):
    """One setting judged. `accuracy` is in percent of `images` search images.

    `parameters` counts every constant of the program, `program_bytes` is the size of the .esv file
    as it is deployed, self-check vector included. Of the images `flipped` are right here and wrong
    for the model as given, or the other way round.
    """

    accuracy: float
    images: int
    parameters: int
    program_bytes: int
    arena_bytes: int
    flipped: int

    @property
    def standard_error(self) -> float:
        """Of the points that are lost: of another sample of images, two in three lie within it."""
        return 100 * self.flipped**0.5 / self.images


def calibration_images(spec: str, count: int = CALIBRATION_IMAGES) -> Dataset:
    """`count` images of the training split, every class in its share; an eighth of it at most.

    They are the same for every search, and no search image is among them.
    """
    train, chosen = _calibration(spec, count)[0::2]
    return _part(train, chosen, f"{len(chosen)} of {len(train)}")


def search_images(spec: str, count: int = SEARCH_IMAGES, seed: int = 0, calibration: int = 0
                  ) -> Dataset:
    """`count` images of the training split (fewer if there are no more), every class in its share.

    Neither the test split nor the `calibration` images are touched.
    """
    train, others, _ = _calibration(spec, calibration)
    if count >= len(others) == len(train):
        return train
    if count < len(others):
        others = others[stratified(train.labels[others], count, seed)[1]]
    return _part(train, others, f"{len(others)} of {len(train)}, seed {seed}")


def _calibration(spec: str, count: int) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """The training split, the indices of what is left for searches, and of `count` images."""
    train = load(spec, "train")
    count = min(count, int(len(train) * CALIBRATION_SHARE))
    return train, *stratified(train.labels, count, 0)


def _part(train: Dataset, chosen: np.ndarray, what: str) -> Dataset:
    return replace(train, images=train.images[chosen], labels=train.labels[chosen],
                   name=f"{train.name} (train, {what})")


class Judge:
    """Judges settings of one model.

    `store` is a file of one line an answer. `jobs` settings are judged side by side, here or, with
    the address of its scheduler, on a Dask `cluster` whose machines see the same files. On so many
    `calibration` images batch norms are recalibrated where channels, tokens or time steps were
    taken, and narrower weights rounded so that their errors cancel; 0: batch norms stay as they
    are, and every weight goes to the nearest.
    """

    def __init__(self, source: RunFolder, spec: str, store: Path, images: int = SEARCH_IMAGES,
                 seed: int = 0, jobs: int = 0, cluster: str = "", calibration: int = 0):
        self.source, self.store, self.jobs = source, store, jobs or os.cpu_count() or 1
        self.card, self.weights = source.card(), source.weights()
        self.cluster = cluster
        self.task = (str(source.path), spec, images, seed, calibration)
        self.data_name = _images(*self.task[1:]).name
        # What answers mean now: older ones, without the self-check vector, of weights rounded to
        # nearest or without flipped images, are asked again.
        self._about = hashlib.sha256("\n".join(
            (source.weights_sha256(), msgspec.json.encode(self.card).decode(), str(self.task[1:]),
             str(VERSION), "with check, compensated, flipped")).encode()).hexdigest()
        self._known = {row["setting"]: msgspec.convert(row["verdict"], Verdict)
                       for row in read_lines(store) if row.get("about") == self._about}
        self.asked = 0  # answers that had to be computed
        self.named: set[str] = set()  # keys of all settings that were asked about

    @property
    def whole(self) -> Verdict:
        """The model as given."""
        return self(WHOLE)

    def __call__(self, setting: Setting) -> Verdict:
        return self.many([setting])[0]

    @property
    def answered(self) -> set[str]:
        """The keys of all settings that were asked about and have an answer."""
        return self.named & self._known.keys()

    def many(self, settings: Sequence[Setting],
             on_done: Callable[[int, int], None] = lambda done, of: None) -> list[Verdict]:
        """Judge all, in order; only those without an answer yet cost anything.

        `on_done` hears how many of these are done.
        """
        self.named |= {setting.key() for setting in settings}
        missing = list({s.key(): s for s in settings if s.key() not in self._known}.values())
        if len(missing) == 1:
            self._keep(missing[0], _verdict(*self.task, missing[0], workers=self.jobs))
        elif missing:
            with self._one_thread(), self._parallel(len(missing)) as run:
                answers = run(delayed(_verdict)(*self.task, setting) for setting in missing)
                for done, (setting, verdict) in enumerate(zip(missing, answers, strict=True)):
                    self._keep(setting, verdict)
                    on_done(done + 1, len(missing))
        return [self._known[setting.key()] for setting in settings]

    @contextlib.contextmanager
    def _parallel(self, count: int) -> Iterator[Parallel]:
        if not self.cluster:
            # The C runtime holds no Python lock: threads share images and weights.
            yield Parallel(n_jobs=min(self.jobs, count), prefer="threads", return_as="generator")
            return
        with on_cluster(self.cluster):
            yield Parallel(n_jobs=-1, return_as="generator")

    def images(self) -> np.ndarray:
        """The search images, uint8 [n, H, W, C]."""
        return _images(*self.task[1:]).images

    @property
    def calibration_name(self) -> str:
        """Of the images that batch norms are recalibrated on; '' when they are not."""
        _, spec, _, _, count = self.task
        return calibration_images(spec, count).name if count else ""

    def model(self, setting: Setting) -> tuple[ModelCard, dict[str, np.ndarray]]:
        """The card and the weights that a setting is judged by."""
        path, spec, _, _, count = self.task
        return _made(path, spec, count, setting)

    def program(self, setting: Setting) -> Program:
        """The integer program of a setting."""
        return unchecked_program(*self.model(setting))

    def shape(self, setting: Setting) -> Program:
        """The program of a setting before it is recalibrated: of the same operators and sizes.

        What it checks itself with has the size of what is deployed too, and no meaning.
        """
        program = unchecked_program(*apply(setting, self.card, self.weights))
        no_logits = np.zeros(len(self.card.labels), np.int32)
        return replace(program, check=Check(self.images()[0], no_logits))

    def program_bytes(self, setting: Setting) -> int:
        """The size of a setting's .esv file, which needs no judging."""
        return len(to_bytes(self.shape(setting)))

    def _one_thread(self) -> contextlib.AbstractContextManager:
        if not self.task[-1]:
            return contextlib.nullcontext()
        return one_torch_thread()  # the threads that judge begin with what this one has

    def _keep(self, setting: Setting, verdict: Verdict) -> None:
        self.asked += 1
        self._known[setting.key()] = verdict
        self.store.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.store, {"about": self._about, "setting": setting.key(),
                                 "verdict": msgspec.to_builtins(verdict)})


def _verdict(path: str, spec: str, images: int, seed: int, calibration: int, setting: Setting,
             workers: int = 1) -> Verdict:
    """May run in a process of its own, which reads model and images once."""
    data = _images(spec, images, seed, calibration)
    program = unchecked_program(*_made(path, spec, calibration, setting))
    whole = _whole_logits(path, spec, images, seed, calibration, workers=workers)
    logits = (whole if setting.key() == WHOLE.key() else
              HostProgram(to_bytes(program)).run_many(data.images, workers=workers))
    right, before = (answers.argmax(1) == data.labels for answers in (logits, whole))
    deployed = replace(program, check=Check(data.images[0], logits[0]))
    return Verdict(100 * float(right.mean()), len(data),
                   sum(parameters(op) for op in program.ops), len(to_bytes(deployed)),
                   plan(program).arena_bytes, int((right != before).sum()))


def _whole_logits(*task: str | int, workers: int) -> np.ndarray:
    """Of the model as given on the search images, int32 [n, classes]; computed once a process."""
    with _WHOLE_LOCK:
        if task not in _WHOLE_LOGITS:
            program = HostProgram(to_bytes(unchecked_program(*_model(task[0]))))
            _WHOLE_LOGITS[task] = program.run_many(_images(*task[1:]).images, workers=workers)
        return _WHOLE_LOGITS[task]


def _made(path: str, spec: str, calibration: int, setting: Setting
          ) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """The model of a setting, with what `calibration` images say of batch norms and rounding."""
    card, weights = _model(path)
    made, arrays = apply(setting, card, weights)
    if not calibration:
        return made, arrays
    narrower = {layer: bits for layer, bits in made.layer_bits.items()
                if bits < card.layer_bits.get(layer, card.weight_bits)}
    if made.config != card.config:
        from edgesvit.compress.recalibrate import recalibrated
        # Rounding moves statistics by less than the noise of measuring them on so few images.
        as_wide = msgspec.structs.replace(made, layer_bits=card.layer_bits)
        arrays = recalibrated(as_wide, arrays, _calibration_images(spec, calibration))
    if narrower:
        kept = strongest_of(card.config, weights, setting.kept, setting.fold_bn)
        arrays = _rounder(path, spec, calibration)(made, arrays, kept, narrower)
    return made, arrays


@functools.lru_cache(2)
def _rounder(path: str, spec: str, calibration: int) -> "Rounder":
    """Of the model as given, from which all settings are made."""
    from edgesvit.compress.rounding import Rounder
    return Rounder(*_model(path), _calibration_images(spec, calibration))


@functools.lru_cache(2)
def _calibration_images(spec: str, count: int) -> np.ndarray:
    return calibration_images(spec, count).images


@functools.lru_cache(2)
def _model(path: str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    folder = RunFolder(path)
    return folder.card(), folder.weights()


@functools.lru_cache(2)
def _images(spec: str, count: int, seed: int, calibration: int) -> Dataset:
    return search_images(spec, count, seed, calibration)
