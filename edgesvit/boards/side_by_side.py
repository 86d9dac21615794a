"""Several boards at once: a thread for each, and one Ctrl-C for all of them."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from edgesvit.boards import process
from edgesvit.errors import EdgesvitError
from edgesvit.targets import Target

T = TypeVar("T")
UNWIND_S = 2.0  # for threads to tidy up after Ctrl-C


class _Job(threading.Thread):
    """Runs `work` when it is its turn; keeps what it gives or raises.

    `ended` says when: a join() that Ctrl-C interrupts takes a running thread for a dead one
    (Python 3.11, bpo-46726).
    """

    def __init__(self, work: Callable[[], T], turn: contextlib.AbstractContextManager):
        super().__init__(daemon=True)  # one that sleeps through Ctrl-C does not hold us up
        self._work, self._turn = work, turn
        self.result: T | BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            with self._turn:
                self.result = self._work()
        except BaseException as error:
            self.result = error
        finally:
            self.ended.set()


def side_by_side(targets: Sequence[Target], jobs: Sequence[Callable[[], T]]
                 ) -> list[T | EdgesvitError]:
    """What each target's job gives, or the EdgesvitError that it raises, in their order.

    What runs on this machine itself goes first and alone: its time is measured. Emulators share
    the processors, one each; real boards wait for nobody. After Ctrl-C, or an error that is none
    of ours, no process of any job is left.
    """
    alone = [target.transport == "local" for target in targets]
    done: dict[int, T | EdgesvitError] = {}
    for i in (i for i, first in enumerate(alone) if first):
        try:
            done[i] = jobs[i]()
        except EdgesvitError as error:
            done[i] = error
    emulators = threading.Semaphore(os.cpu_count() or 1)
    threads = {i: _Job(jobs[i], emulators if targets[i].emulator else contextlib.nullcontext())
               for i, first in enumerate(alone) if not first}
    try:
        for thread in threads.values():
            thread.start()
        for i, thread in threads.items():
            thread.ended.wait()
            done[i] = thread.result
            if isinstance(thread.result, BaseException) and \
                    not isinstance(thread.result, EdgesvitError):
                raise thread.result
    except BaseException:
        _end([thread for thread in threads.values() if thread.ident])
        raise
    return [done[i] for i in range(len(jobs))]


def _end(threads: Sequence[_Job]) -> None:
    """End what the threads wait for and let them start nothing else: then they end themselves.

    Whoever only sleeps, or reads a port, dies with us: it holds nothing that has to be put back.
    """
    deadline = time.monotonic() + UNWIND_S
    with process.ending():
        while not all(thread.ended.is_set() for thread in threads) and time.monotonic() < deadline:
            process.stop_all()
            time.sleep(0.05)
