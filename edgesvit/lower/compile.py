"""Call a C compiler once for each distinct input; the result is kept in the cache folder."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgesvit.errors import EdgesvitError
from edgesvit.resources import cache_dir

# Debian package of each program that the project calls.
PACKAGES = {
    "cc": "gcc libc6-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "g++": "g++",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "readelf": "binutils",
    "size": "binutils",
    "nm": "binutils",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "qemu-aarch64": "qemu-user",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-aarch64": "qemu-system-arm",
    "ssh": "openssh-client",
    "scp": "openssh-client",
}

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-sign-conversion")


def need(program: str) -> str:
    """The path of `program`; EdgesvitError naming its Debian package when it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise EdgesvitError(f"needs {program}, which is not installed",
                            f"apt-get install {PACKAGES.get(program, program)}")
    return path


def build(compiler: str, sources: Sequence[Path], flags: Sequence[str], name: str,
          depends: Sequence[Path] = (), last: Sequence[str] = ()) -> Path:
    """Compile and link `sources` with `flags` into a file called `name`; returns its path.

    Keys of the cache hold the compiler's version, the flags, and the content of sources and
    `depends` (headers, linker scripts, included binaries): equal input is never built twice, and a
    changed header is never missed. Flags may hold absolute paths of files named in `depends`.
    `last` are flags for assembler sources and the linker alone: what differs between programs is
    there, so that their C files are compiled once for all.
    """
    tool = need(compiler)
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    headers = [path for path in depends if path.suffix not in _OF_A_PROGRAM]

    def compiled(source: Path) -> Path:
        whole = source.suffix == ".S"
        options = (*flags, *last) if whole else tuple(flags)
        return _kept((version.stdout, *options), (source, *(depends if whole else headers)),
                     f"{source.stem}.o", [tool, *options, "-c", source])

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, sources))
        return _kept((version.stdout, *flags, *last), (*objects, *depends), name,
                     [tool, *flags, *last, *objects])
    except _Failed as error:
        raise EdgesvitError(f"{compiler} failed on {name}:\n{error}") from None


# Files that belong to one program: no C source includes them.
_OF_A_PROGRAM = (".esv", ".ld")


class _Failed(Exception):
    """What a tool said when it failed."""


def _kept(texts: Sequence[str], files: Sequence[Path], name: str, command: Sequence[str | Path]
          ) -> Path:
    """The result of `command`, which writes `name` from these inputs, out of the cache.

    Whoever asks for the same while it is being made waits for it.
    """
    key = hashlib.sha256("\0".join(texts).encode())
    for path in files:
        key.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    folder = cache_dir("build", key.hexdigest()[:24])
    output = folder / name
    if output.exists():
        return output
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            # Renamed when whole: an interrupted build leaves no half-written result.
            partial = folder / f"{name}.partial"
            run = subprocess.run([*map(str, command), "-o", str(partial)], capture_output=True,
                                 text=True)
            if run.returncode:
                partial.unlink(missing_ok=True)
                raise _Failed(run.stderr.strip() or "it says nothing")
            partial.rename(output)
    return output


def loaded_bytes(files: Sequence[Path]) -> dict[str, int]:
    """Bytes that an executable and the libraries beside it take in memory: code, and writable
    data (io).
    """
    listing = subprocess.run([need("readelf"), "-lW", *map(str, files)], capture_output=True,
                             text=True, check=True).stdout
    taken = {"code": 0, "io": 0}
    for words in map(str.split, listing.splitlines()):
        if words[:1] == ["LOAD"]:  # offset, two addresses, bytes in the file and in memory, flags
            taken["io" if "W" in "".join(words[6:-1]) else "code"] += int(words[5], 16)
    return taken
