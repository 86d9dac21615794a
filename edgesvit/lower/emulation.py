"""A root folder for QEMU's user-mode emulation of aarch64, as libraries expect to find it."""

import subprocess
from pathlib import Path

from edgesvit.disk import write_atomic
from edgesvit.lower.compile import need
from edgesvit.resources import cache_dir
from edgesvit.targets import Target

COMPILER = "aarch64-linux-gnu-gcc"
_BASIC = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_FEATURES = {  # what Linux says of each core, and its MIDR's part number
    "cortex-a53": (_BASIC, "0xd03"), "cortex-a72": (_BASIC, "0xd08"),
    "cortex-a76": ("fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
                   "asimdrdm lrcpc dcpop asimddp ssbs", "0xd0b"),
}


def cpuinfo(cpu: str) -> str:
    """/proc/cpuinfo of a board with two cores `cpu`: libraries ask it which kernels to take.

    Emulated programs would see the host's, which makes some of them crash.
    """
    features, part = _FEATURES[cpu]
    return "".join(
        f"processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part}\nCPU revision\t: 3\n\n" for n in range(2))


def view(folder: Path, cpu: str, links: dict[str, Path]) -> Path:
    """`folder`, made on first use: `links` by name, and /proc/cpuinfo of `cpu`."""
    if not (folder / "proc" / "cpuinfo").exists():
        (folder / "proc").mkdir(parents=True, exist_ok=True)
        for name, to in links.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(to)
        (folder / "proc" / "cpuinfo").write_text(cpuinfo(cpu))
    return folder


def cross_library(name: str) -> Path:
    """A shared library of the cross compiler, for aarch64."""
    said = subprocess.run([need(COMPILER), f"-print-file-name={name}"], capture_output=True,
                          text=True, check=True)
    return Path(said.stdout.strip()).resolve()


def emulation_root(cpu: str) -> Path:
    """The cross compiler's libraries as the root of a board with `cpu`."""
    return view(cache_dir("emulation-root") / cpu, cpu, {"lib": cross_library("libc.so.6").parent})


def board_libraries(target: Target) -> tuple[Path, ...]:
    """The C++ libraries, for an emulated board: its small system lacks what real boards have."""
    if target.transport != "ssh" or not target.emulator:
        return ()
    return tuple(_named(cross_library(name), name) for name in ("libstdc++.so.6", "libgcc_s.so.1"))


def _named(library: Path, name: str) -> Path:
    """A library under the name by which it is looked for."""
    path = cache_dir("emulation-root", "libraries") / name
    if not path.exists() or path.stat().st_size != library.stat().st_size:
        write_atomic({path: library.read_bytes()})
    return path
