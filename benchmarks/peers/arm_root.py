"""A small Debian arm64 root with Python and the peers' wheels, for QEMU's user-mode emulation."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from edgesvit.boards.debian import PackageTree
from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import need
from edgesvit.lower.emulation import view
from edgesvit.resources import cache_dir

# libpython3.N and python3.N come on top, N as the distribution has it.
_LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3",
              "libbz2-1.0", "liblzma5", "libuuid1")
_PLATFORMS = ("manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64",
              "manylinux_2_17_aarch64", "manylinux_2_26_aarch64", "manylinux_2_31_aarch64")


class ArmRoot:
    """The root folder and how to run Python in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = next((folder / "usr/bin").glob("python3.*"))

    def argv(self, cpu: str, plugin: str = "") -> list[str]:
        """The start of a command line that runs the root's Python on `cpu`."""
        root = self._view(cpu)
        flags = ["-plugin", plugin] if plugin else []
        return [need("qemu-aarch64"), "-cpu", cpu, "-L", str(root), *flags,
                "-E", f"PYTHONHOME={self.folder / 'usr'}", "-E",
                f"PYTHONPATH={self.folder / 'wheels'}", str(self.python)]

    def _view(self, cpu: str) -> Path:
        """The root as seen on `cpu`."""
        links = {name: self.folder / name for name in ("lib", "usr", "etc")
                 if (self.folder / name).exists()}
        return view(self.folder / "views" / cpu, cpu, links)


def arm_root(packages: tuple[str, ...]) -> ArmRoot:
    """The root with the wheels `packages`, in the versions that are installed here; cached.

    Raises EdgesvitError when Debian's mirror or the package index does not give them.
    """
    wanted = sorted(f"{name}=={version(name)}" for name in packages)
    key = hashlib.sha256("\n".join([*wanted, *_LIBRARIES]).encode()).hexdigest()[:16]
    folder = cache_dir("arm-root") / key
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _unpack_debian(folder)
        _unpack_wheels(folder, wanted)
        (folder / "complete").touch()
    return ArmRoot(folder)


def _unpack_debian(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        tree = PackageTree(Path(work) / "apt", "arm64")
        tree.update()
        minimal = tree.kernel_of("python3-minimal")  # pythonX.Y-minimal
        python = minimal.removesuffix("-minimal")
        names = [minimal, f"lib{python}-minimal", f"lib{python}-stdlib", *_LIBRARIES]
        for deb in tree.download(names):
            subprocess.run([need("dpkg-deb"), "-x", str(deb), str(folder)], check=True)


def _unpack_wheels(folder: Path, wanted: list[str]) -> None:
    release = re.search(r"python(3\.\d+)", next((folder / "usr/bin").glob("python3.*")).name)[1]
    platforms = [flag for name in _PLATFORMS for flag in ("--platform", name)]
    got = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:",
         "--target", str(folder / "wheels"), "--python-version", release, *platforms, *wanted],
        capture_output=True, text=True)
    if got.returncode:
        raise EdgesvitError(f"no wheels for arm64: {got.stderr.strip().splitlines()[-1]}")
