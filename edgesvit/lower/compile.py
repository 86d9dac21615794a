"""Call a C compiler once for each distinct input; the result is kept in the cache folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgesvit.errors import EdgesvitError
from edgesvit.resources import cache_dir

# Debian package of each program that the project calls.
PACKAGES = {
    "cc": "gcc libc6-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
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
          depends: Sequence[Path] = ()) -> Path:
    """Compile and link `sources` with `flags` into a file called `name`; returns its path.

    The cache key holds the compiler's version, the flags, and the content of `sources` and
    `depends` (headers, linker scripts, included binaries): equal input is never built twice, and a
    changed header is never missed. Flags may hold absolute paths of files named in `depends`.
    """
    program = need(compiler)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    key = hashlib.sha256(version.stdout.encode() + "\0".join(flags).encode())
    for path in (*sources, *depends):
        key.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    folder = cache_dir("build", key.hexdigest()[:24])
    output = folder / name
    if output.exists():
        return output
    # Built under another name and renamed: an interrupted build leaves no half-written result.
    partial = folder / f"{name}.{os.getpid()}.partial"
    with tempfile.TemporaryDirectory() as objects, ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [Path(objects, f"{i}.o") for i in range(len(sources))]
        said = pool.map(lambda pair: _call([program, *flags, "-c", pair[0], "-o", pair[1]]),
                        zip(sources, files, strict=True))
        errors = [error for error in said if error]
        if error := errors[0] if errors else _call([program, *flags, *files, "-o", partial]):
            partial.unlink(missing_ok=True)
            raise EdgesvitError(f"{compiler} failed on {name}:\n{error}")
    partial.rename(output)
    return output


def _call(command: Sequence[str | Path]) -> str:
    """Run a tool; what it says when it fails, '' when it does not."""
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return run.stderr.strip() or "it says nothing" if run.returncode else ""
