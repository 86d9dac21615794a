"""Inferences over a serial line that goes wrong once in each: how many end right, and in what time.

    python benchmarks/serial_faults.py [--runs 10000] [--seed 0] [--json FILE]

The board's own C code runs behind a pty. In every run one random byte of the conversation is lost,
changed, doubled or late, or the rest of what was on its way with it is gone. A result that is
accepted must be the interpreter's; whatever else happens must end in bounded time with one error.
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from host_runtime import processor

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgesvit.errors import EdgesvitError  # noqa: E402
from edgesvit.measure.protocol import SerialSession  # noqa: E402
from edgesvit.program import interpret  # noqa: E402
from edgesvit.report.table import table  # noqa: E402
from tests.fakes.serial_boards import (  # noqa: E402
    behind_pty,
    host_board,
    small_program,
    write_program,
)
from tests.program.programs import random_image  # noqa: E402

KINDS = ("drop", "flip", "duplicate", "delay", "cut")
IMAGES = 50
LATE_S = 0.05
# The board answers and infers within a few milliseconds: waiting is what takes the time.
REPLY_S, RUN_S = 0.03, 0.3


class FaultyPort:
    """A port of which one byte, the `place`-th that passes in `direction`, goes wrong."""

    def __init__(self, port, kind: str, direction: str, place: int, bit: int):
        self.__dict__.update(port=port, kind=kind, direction=direction, left=place, bit=bit,
                             struck=False)

    def read(self, count: int) -> bytes:
        return self._passed("reply", self.port.read(count))

    def write(self, data: bytes) -> int:
        self.port.write(self._passed("request", bytes(data)))
        return len(data)

    def __getattr__(self, name: str):
        return getattr(self.port, name)

    def __setattr__(self, name: str, value) -> None:
        setattr(self.port, name, value)

    def _passed(self, direction: str, data: bytes) -> bytes:
        if self.struck or direction != self.direction:
            return data
        if self.left >= len(data):
            self.__dict__["left"] -= len(data)
            return data
        self.__dict__["struck"] = True
        return self._wrong(data, self.left)

    def _wrong(self, data: bytes, at: int) -> bytes:
        before, byte, after = data[:at], data[at], data[at + 1:]
        match self.kind:
            case "drop":
                return before + after
            case "flip":
                return before + bytes([byte ^ 1 << self.bit]) + after
            case "duplicate":
                return before + bytes([byte, byte]) + after
            case "delay":
                time.sleep(LATE_S)
                return data
            case _:
                return before


def runs(count: int, seed: int):
    """(kind, what came of it, whether the fault struck, seconds, retries) of each run."""
    chance = random.Random(seed)
    program = small_program()
    images = [random_image(program, i) for i in range(IMAGES)]
    expected = [interpret.run(program, image) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        path, arena_bytes = write_program(program, Path(folder))
        with behind_pty("--run", str(host_board()), str(path), str(arena_bytes)) as port:
            conversation = _length(port, images[0])
            for _ in range(count):
                which, kind = chance.randrange(IMAGES), chance.choice(KINDS)
                direction = chance.choice(("request", "reply"))
                place = chance.randrange(conversation[direction])
                faulty = FaultyPort(port, kind, direction, place, chance.randrange(8))
                session, begin = SerialSession(faulty, REPLY_S, RUN_S), time.monotonic()
                try:
                    session.hello()
                    logits = session.infer(images[which]).logits
                    end = "right" if np.array_equal(logits, expected[which]) else "WRONG"
                except EdgesvitError:
                    end = "error"
                yield kind, end, faulty.struck, time.monotonic() - begin, session.retries


def _length(port, image: np.ndarray) -> dict[str, int]:
    """Bytes of an inference each way."""
    count = {"request": 0, "reply": 0}

    class Counting(FaultyPort):
        def _passed(self, direction: str, data: bytes) -> bytes:
            count[direction] += len(data)
            return data

    session = SerialSession(Counting(port, "", "", 0, 0))
    session.hello()
    session.infer(image)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = collections.defaultdict(list)
    for kind, *rest in runs(options.runs, options.seed):
        found[kind].append(rest)
    rows = [(kind, len(all_), sum(struck for _, struck, _, _ in all_),
             *(sum(end == name for end, *_ in all_) for name in ("right", "error", "WRONG")),
             sum(retries for *_, retries in all_), f"{max(s for _, _, s, _ in all_):.2f}")
            for kind, all_ in sorted(found.items())]
    header = ("fault", "runs", "struck", "right", "error", "wrong accepted", "retries", "longest s")
    print(table(header, rows))
    print(f"\n{sum(row[5] for row in rows)} wrong results accepted in {options.runs:,} runs; "
          f"{processor()}")
    if options.json:
        options.json.write_text(json.dumps([dict(zip(header, row, strict=True)) for row in rows],
                                           indent=1))
    if any(row[5] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
