"""What lowering makes, whatever the runtime: files for a board and the command that runs them."""

from dataclasses import dataclass, field
from pathlib import Path

IMAGES, THREADS = "{images}", "{threads}"


@dataclass(frozen=True)
class Artifact:
    """What goes to a board: `executable` and `files` lie in one folder there.

    An argument that is the name of one of `files` becomes its place on the board, `{images}` that
    of the file of images (raw uint8), `{threads}` the number of threads. On Linux the executable
    prints the lines of firmware/linux/runner.c, whatever the runtime. Microcontrollers get the
    executable alone: the program is inside.
    """

    runtime: str
    executable: Path
    linked_bytes: dict[str, int]  # by use: code, weights, arena, stack, io
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # program, libraries
    program_crc32: str = ""  # firmware tells it: is this the program that the board runs?
    exact: bool = True  # the logits are the interpreter's; else the difference is measured
    root: Path | None = None  # with the libraries that an emulator of the processor alone needs
    glibc: str = ""  # the oldest that a board may have, as "2.34"; "": any, or none
    notes: dict[str, object] = field(default_factory=dict)  # what lowering says of the result

    def command(self, folder: str, images: str, threads: int) -> list[str]:
        """The command line on a board that has everything in `folder`."""
        places = {path.name: f"{folder}/{path.name}" for path in self.files}
        places |= {IMAGES: images, THREADS: str(threads)}
        return [f"{folder}/{self.executable.name}", *(places.get(a, a) for a in self.arguments)]
