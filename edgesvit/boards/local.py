"""This machine as a board: the C runtime in our own process."""

import contextlib
import ctypes
import itertools
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edgesvit.errors import EdgesvitError
from edgesvit.lower.native import host_library

_ALIGN = 16


class _Program(ctypes.Structure):
    """`esv_program` of firmware/runtime/esv_runtime.h."""

    _fields_ = [("file", ctypes.c_void_p), ("file_bytes", ctypes.c_uint32),
                ("crc", ctypes.c_uint32), ("arena_bytes", ctypes.c_uint32),
                ("input_bytes", ctypes.c_uint32), ("classes", ctypes.c_uint16),
                ("operators", ctypes.c_uint16), ("time_steps", ctypes.c_uint8),
                ("crew", ctypes.c_void_p), ("widened", ctypes.c_void_p)]


def aligned(count: int) -> np.ndarray:
    """uint8 [count] that starts on a 16-byte boundary."""
    raw = np.zeros(count + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start:start + count]


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.esv_status_text.restype = ctypes.c_char_p
    library.crew_kernel_name.restype = ctypes.c_char_p
    library.crew_free.argtypes = [ctypes.c_void_p]
    for name in ("esv_input", "esv_logits", "crew_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def _dismiss(library: ctypes.CDLL, idle: dict[tuple[str, int], list[_Program]]) -> None:
    for program in itertools.chain.from_iterable(idle.values()):
        library.crew_free(program.crew)


def kernels(library: Path | None = None) -> list[str]:
    """The variants of the spike kernels that this processor runs, best first."""
    loaded = _load(library or host_library())
    names = (loaded.crew_kernel_name(ctypes.c_uint32(i)) for i in itertools.count())
    return [name.decode() for name in itertools.takewhile(bool, names)]


class HostProgram:
    """A program opened by the C runtime on this machine.

    Raises EdgesvitError with the runtime's own words when the file is refused.
    """

    def __init__(self, data: bytes, library: Path | None = None):
        self._library = _load(library or host_library())
        self._file = aligned(len(data))
        self._file[:] = np.frombuffer(data, np.uint8)
        self._program = _Program()
        status = self._library.esv_open(ctypes.byref(self._program), self._pointer(self._file),
                                        ctypes.c_uint32(len(data)))
        if status:
            text = self._library.esv_status_text(status).decode()
            raise EdgesvitError(f"the runtime refuses the program: {text}")
        self.arena_bytes = self._program.arena_bytes
        self.operators = self._program.operators
        self._idle: dict[tuple[str, int], list[_Program]] = {}
        weakref.finalize(self, _dismiss, self._library, self._idle)

    @staticmethod
    def _pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    @contextlib.contextmanager
    def _crewed(self, kernels: str, threads: int) -> Iterator[ctypes.c_void_p]:
        """The program as one run uses it; EdgesvitError without `kernels` on this processor.

        Its weights are expanded once: a later run takes what an earlier one no longer uses.
        """
        idle = self._idle.setdefault((kernels, threads), [])
        try:
            program = idle.pop()
        except IndexError:
            program = self._with_crew(kernels, threads)
        try:
            yield ctypes.byref(program)
        finally:
            idle.append(program)

    def _with_crew(self, kernels: str, threads: int) -> _Program:
        program = _Program.from_buffer_copy(self._program)
        if not self._library.crew_new(ctypes.byref(program), kernels.encode() or None,
                                      ctypes.c_uint32(threads)):
            raise EdgesvitError(f"no {kernels or 'fitting'} kernels on this processor")
        return program

    def _place(self, arena: np.ndarray, image: np.ndarray) -> None:
        at = self._library.esv_input(ctypes.byref(self._program), self._pointer(arena))
        pixels = np.ascontiguousarray(image, np.uint8)  # a copy must outlive its address
        ctypes.memmove(at, pixels.ctypes.data, self._program.input_bytes)

    def _logits(self, arena: np.ndarray) -> np.ndarray:
        at = self._library.esv_logits(ctypes.byref(self._program), self._pointer(arena))
        return np.ctypeslib.as_array(
            ctypes.cast(at, ctypes.POINTER(ctypes.c_int32)), (self._program.classes,)).copy()

    def run(self, images: np.ndarray, kernels: str = "", threads: int = 1) -> np.ndarray:
        """Logits int32 [n, classes] of images uint8 [n, H, W, C].

        `kernels` names a variant of the spike kernels, '' takes the processor's fastest.
        """
        arena = aligned(self.arena_bytes)
        logits = np.empty((len(images), self._program.classes), np.int32)
        with self._crewed(kernels, threads) as program:
            for i, image in enumerate(images):
                self._place(arena, image)
                self._library.esv_run(program, self._pointer(arena))
                logits[i] = self._logits(arena)
        return logits

    def run_many(self, images: np.ndarray, workers: int = 0) -> np.ndarray:
        """`run`, spread over the machine's cores: the library holds no Python lock."""
        workers = workers or os.cpu_count() or 1
        chunks = np.array_split(images, min(len(images), 8 * workers) or 1)
        with ThreadPoolExecutor(workers) as pool:
            return np.concatenate(list(pool.map(self.run, chunks)))

    def arenas(self, image: np.ndarray, kernels: str = "", threads: int = 1) -> list[np.ndarray]:
        """The whole arena after each operator, for comparing with the interpreter."""
        arena = aligned(self.arena_bytes)
        self._place(arena, image)
        after = []
        with self._crewed(kernels, threads) as program:
            for i in range(self.operators):
                self._library.esv_run_operator(program, self._pointer(arena), ctypes.c_uint32(i))
                after.append(arena.copy())
        return after
