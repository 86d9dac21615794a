"""What a board did: one record for every transport, and the Linux runner's lines read into it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edgesvit.errors import EdgesvitError, Unreachable


@dataclass
class BoardRun:
    """All inferences of one deployment, in the order of the images.

    `instructions` and `latency_us` are None where the board has no such counter or clock;
    `linked_bytes` is what the linker says and `observed_bytes` what the board itself saw, by use
    (code, weights, arena, stack, io).
    """

    logits: np.ndarray  # int32 [images, classes]; float64 where a runtime's are not integers
    instructions: list[int] | None = None
    latency_us: list[float] | None = None
    linked_bytes: dict[str, int] = field(default_factory=dict)
    observed_bytes: dict[str, int] = field(default_factory=dict)
    environment: dict[str, object] = field(default_factory=dict)
    retries: int = 0


def read_runner(lines: Iterable[str], images: int, what: str) -> BoardRun:
    """Collect the output of firmware/linux/runner.c, or of a runner that prints the same lines.

    Raises Unreachable when it is cut short, EdgesvitError when a line makes no sense.
    """
    records: list[dict[str, str]] = []
    memory: dict[str, str] = {}
    program: dict[str, str] = {}
    word = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        fields = dict(part.partition("=")[::2] for part in rest.split())
        if word == "image":
            records.append(fields)
        elif word == "memory":
            memory = fields
        elif word == "program":
            program = fields
    if word != "done" or len(records) != images:
        raise Unreachable(f"{what}: the runner's output ends after {len(records)} of {images} "
                          "images", "run it again")
    try:
        return _collect(records, memory, program)
    except (KeyError, ValueError) as error:
        raise EdgesvitError(f"{what}: cannot read the runner's line: {error}") from None


def _collect(records: list[dict[str, str]], memory: dict[str, str], program: dict[str, str]
             ) -> BoardRun:
    logits = np.array([[float(x) for x in r["logits"].split(",")] for r in records])
    if (logits == np.rint(logits)).all():  # float64 holds every int32
        logits = logits.astype(np.int32)
    counts = [int(r["instructions"]) for r in records]
    return BoardRun(
        logits=logits,
        instructions=None if min(counts) < 0 else counts,
        latency_us=[int(r["ns"]) / 1000 for r in records],
        observed_bytes={
            "code": int(memory["code"]), "weights": int(memory["file"]),
            "arena": int(memory["arena_used"]), "stack": int(memory["stack"]),
            "io": int(memory["data"])},
        environment={"peak_rss_bytes": int(memory["peak_rss"]), "kernels": program["kernels"],
                     "threads": int(program["threads"]), "work_bytes": int(program["work"])},
    )
