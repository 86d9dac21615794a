"""From a trained model to a proven run on a board: the steps behind `edgesvit deploy`."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgesvit.boards.run import run as run_on_board
from edgesvit.cost import memory
from edgesvit.data.dataset import Dataset
from edgesvit.evaluate import integer_accuracy, program_of
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.runtimes import lower
from edgesvit.measure.result import TargetResult, compare, require_equal, samples
from edgesvit.measure.run import BoardRun
from edgesvit.profiles import Profile
from edgesvit.program import file
from edgesvit.program.interpret import run as interpret
from edgesvit.program.ops import Program
from edgesvit.run_folder import RunFolder
from edgesvit.targets import Target

Note = Callable[[str], None]
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Deployment:
    """A program on disk with the images to run, and what the definition says they give."""

    name: str
    program: Program
    path: Path
    images: np.ndarray  # uint8 [n, H, W, C]
    expected: np.ndarray  # int32 [n, classes], from the interpreter
    accuracy: float  # percent of all held-out images, integer program
    accuracy_images: int
    float_accuracy: float | None
    calibration: np.ndarray | None = None  # training images uint8 [n, H, W, C]


def prepare(model: RunFolder, run: RunFolder, data: Dataset, images: int,
            calibration: np.ndarray | None = None) -> Deployment:
    """Build the program of `model` into the folder `run`; the first `images` of `data` will run.

    `calibration` are training images for runtimes that look at values.
    Raises UsageError for a model or data that do not fit together.
    """
    card = model.card()
    program = program_of(card, model.weights(), data)
    run.path.mkdir(parents=True, exist_ok=True)
    file.write(program, run.program_path)
    chosen = data.images[:images]
    return Deployment(
        name=model.path.name, program=program, path=run.program_path, images=chosen,
        expected=np.stack([interpret(program, image) for image in chosen]),
        accuracy=integer_accuracy(program, data), accuracy_images=len(data),
        float_accuracy=_percent(card.metrics.get("test_accuracy")), calibration=calibration,
    )


def require_fit(deployment: Deployment, target: Target, profile: Profile, hint: str) -> None:
    """Raise DoesNotFit when the estimate exceeds the target's memory or the profile's budgets."""
    used = memory.estimate(deployment.program, deployment.path.stat().st_size, target)
    memory.require_fit(deployment.program, used, target, profile, hint)


def deploy(deployment: Deployment, target: Target, profile: Profile, note: Note,
           progress: Progress = lambda done: None, threads: int = 1, runtime: str = "native",
           twin: bool = False) -> TargetResult:
    """Lower the program to `runtime`, put it on `target`, run all images there and prove that the
    logits are equal; where the runtime does not promise that, say by how much they differ.

    `twin` runs a dense int8 network of the same shape in its place, for its time alone.
    Raises DoesNotFit, Unreachable, ResultDiffers or EdgesvitError; returns nothing unproven.
    """
    return ready(deployment, target, profile, threads, runtime, twin)(note, progress)


def ready(deployment: Deployment, target: Target, profile: Profile, threads: int = 1,
          runtime: str = "native", twin: bool = False
          ) -> Callable[[Note, Progress], TargetResult]:
    """The first half of `deploy`: the program fits and is lowered. What it returns is the second,
    which may run beside those of other boards."""
    hint = f"edgesvit compress --target {target.name}"
    require_fit(deployment, target, profile, hint)
    artifact = lower(deployment.path, target, runtime, deployment.calibration, twin)
    estimated = memory.estimate(deployment.program, deployment.path.stat().st_size, target)
    if runtime != "native":  # its own rule, known once lowered
        estimated |= artifact.linked_bytes
        memory.require_fit(deployment.program, estimated, target, profile, hint)

    def run(note: Note, progress: Progress) -> TargetResult:
        board = run_on_board(target, artifact, deployment.images, note, progress, threads)
        return _result(deployment, target, artifact, board, estimated, twin)

    return run


def _result(deployment: Deployment, target: Target, artifact: Artifact, board: BoardRun,
            estimated: dict[str, int], twin: bool) -> TargetResult:
    return TargetResult(
        target=target.name, title=target.title,
        label="emulated" if target.emulator else "measured", runtime=artifact.runtime,
        exact=artifact.exact, model=deployment.name, program_crc32=file.crc32(deployment.path),
        images=len(deployment.images), **_proof(artifact, board.logits, deployment, target, twin),
        accuracy=deployment.accuracy, accuracy_images=deployment.accuracy_images,
        float_accuracy=deployment.float_accuracy,
        memory=memory.table(target, estimated, board.linked_bytes, board.observed_bytes),
        instructions_per_inference=samples(board.instructions),
        latency_us=samples(board.latency_us), retries=board.retries,
        environment={"host": platform.platform(), "processor": platform.machine()}
        | board.environment, lowering=artifact.notes,
    )


def _proof(artifact: Artifact, logits: np.ndarray, deployment: Deployment, target: Target,
           twin: bool) -> dict[str, int | float]:
    """What the logits show; ResultDiffers when an exact runtime's are not the interpreter's."""
    if twin:
        return {"logits_equal": 0}
    if artifact.exact:
        require_equal(logits, deployment.expected, target.name)
    return compare(logits, deployment.expected)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
