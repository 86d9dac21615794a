"""The benchmark's C programs: our kernel and a dense rival, for this machine, aarch64, Cortex-M."""

import ctypes
import hashlib
import json
import string
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgesvit.boards.runner import counting_plugin
from edgesvit.errors import EdgesvitError
from edgesvit.lower.compile import STRICT, build, need
from edgesvit.resources import cache_dir, shipped
from edgesvit.targets import load
from peers.layers import Firing, Layer

C = Path(__file__).resolve().parent.parent / "kernels"
_SHARED = ("spike_layer.c", "spikes.c", "plain.c", "ours.c", "dense.c", "attention.c",
           "attention_dense.c")
_MEGABYTE = 1 << 20
SOURCES = ("bernoulli", "lif", "recorded")  # as layer.h numbers them

# Processor -> the target whose flags our kernel gets, and the flags of the rival.
ARM = {"cortex-a76": ("rpi5", "-march=armv8.2-a+dotprod"),
       "cortex-a72": ("rpi4", "-march=armv8-a"), "cortex-a53": ("rpi-zero2w", "-march=armv8-a")}
# Processor -> the target, and where its emulated board has a few megabytes of memory.
MCU = {"cortex-m4": ("qemu-mps2-an386", 0x21000000, 16 * _MEGABYTE),
       "cortex-m7": ("qemu-mps2-an500", 0x60000000, 16 * _MEGABYTE),
       "cortex-m55": ("qemu-mps3-an547", 0x31000000, 4 * _MEGABYTE)}


@dataclass(frozen=True)
class Counted:
    """One run of a layer: instructions, and the firing rates it had."""

    instructions: int
    rate: float
    union: float  # of inputs that fire in at least one step


def _sources(*more: str, linux: bool = True) -> tuple[list[Path], list[Path], list[str]]:
    """C files, headers and include flags: the benchmark's and the kernels'."""
    folders = [C, *(shipped("firmware") / name for name in ("kernels", "linux", "runtime"))]
    files = [C / name for name in (*_SHARED, *more)] + sorted(folders[1].glob("*.c"))
    if linux:  # where several kernels may run, this one chooses
        files.append(folders[2] / "choose.c")
    headers = [path for folder in folders for path in sorted(folder.glob("*.h"))]
    return files, headers, [f"-I{folder}" for folder in folders]


class Host:
    """The layers in this process, to be timed."""

    class _Shape(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint32) for name in (
            "side", "channels", "out_channels", "kernel", "time_steps", "rate", "source",
            "bits")]

    def __init__(self) -> None:
        files, headers, includes = _sources()
        flags = [*STRICT, "-O3", "-march=native", "-shared", "-fPIC", *includes]
        self._library = ctypes.CDLL(str(build("cc", files, flags, "libspikelayer.so", headers)))

    def reset(self) -> None:
        """Forget all layers."""
        self._library.bench_reset()

    def open(self, layer: Layer, firing: Firing) -> int:
        """A new layer; returns its number."""
        shape = self._Shape(layer.side, layer.channels, layer.out_channels, layer.kernel,
                            layer.time_steps, firing.rate, SOURCES.index(firing.source),
                            layer.bits)
        return self._library.bench_open(ctypes.byref(shape))

    def run(self, kernel: str, number: int) -> None:
        """Run `ours` or `dense` once."""
        (self._library.bench_ours if kernel == "ours" else self._library.bench_dense)(number)

    def check(self, kernel: str, number: int) -> None:
        """Run and compare with the definition; EdgesvitError when an output differs."""
        self.run(kernel, number)
        if wrong := self._library.bench_mismatches(number):
            raise EdgesvitError(f"{kernel}: {wrong} outputs differ from the definition")

    def rates(self, number: int) -> tuple[float, float]:
        """Firing rate, and the share of inputs that fire in at least one step."""
        return tuple(self._library.bench_rate(number, any_step) / 1e6 for any_step in (0, 1))


def arm_program(cpu: str, kernel: str, *defines: str, main: str = "spike_main.c") -> Path:
    """A static aarch64 program for `ours` or `dense` on `cpu`."""
    files, headers, includes = _sources(main)
    target, rival = ARM[cpu]
    flags = [rival] if kernel == "dense" else load(target).compiler_flags
    return build("aarch64-linux-gnu-gcc", files,
                 [*STRICT, "-D_GNU_SOURCE", "-O3", "-static", *defines, *flags, *includes],
                 "spike_layer", headers)


def mcu_program(cpu: str, kernel: str) -> Path:
    """A bare-metal program for the emulated board of `cpu`, built as firmware is.

    The rival gets -O3, with which gcc vectorises its loops.
    """
    files, headers, includes = _sources("spike_main.c", linux=False)
    target, ram, ram_bytes = MCU[cpu]
    text = string.Template((C / "cortex_m.ld.in").read_text()).substitute(
        ram=f"{ram:#x}", ram_bytes=ram_bytes)
    script = cache_dir("bench", hashlib.sha256(text.encode()).hexdigest()[:16]) / "link.ld"
    script.write_text(text)
    flags = [*STRICT, "-O3" if kernel == "dense" else "-O2", "-mthumb",
             "-ffunction-sections", "-nostartfiles", "-Wl,--gc-sections",
             f"-DMEMORY_BYTES={ram_bytes - _MEGABYTE // 4}", "--specs=nosys.specs",
             *load(target).compiler_flags, *includes, "-T", str(script)]
    return build("arm-none-eabi-gcc", files, flags, "spike_layer.elf", [*headers, script])


def arguments(kernel: str, layer: Layer, firing: Firing) -> list[str]:
    """The words after the program's name: two runs of the layer."""
    numbers = (layer.side, layer.channels, layer.out_channels, layer.kernel, layer.time_steps,
               firing.rate, SOURCES.index(firing.source), layer.bits, 2)
    return [kernel, *map(str, numbers), *([str(firing.codes)] if firing.codes else [])]


def count(cpu: str, kernel: str, layer: Layer, firing: Firing) -> Counted:
    """Instructions of one layer by `ours` or `dense` on `cpu`, under emulation; cached."""
    program = mcu_program(cpu, kernel) if cpu in MCU else arm_program(cpu, kernel)
    words = arguments(kernel, layer, firing)
    instructions, rate, union = counted(cpu, program, words)
    return Counted(instructions, rate / 1e6, union / 1e6)


def counted(cpu: str, program: Path, words: list[str]) -> list[int]:
    """Instructions of the last run between the marks, and what the program said; cached.

    It says first how many outputs are wrong; EdgesvitError unless that is 0.
    """
    key = hashlib.sha256("\0".join([program.parent.name, cpu, *words]).encode()).hexdigest()
    cached = cache_dir("kernel-counts") / f"{key[:24]}.json"
    if not cached.exists():
        cached.write_text(json.dumps(_count(cpu, program, words)))
    return json.loads(cached.read_text())


def _count(cpu: str, program: Path, words: list[str]) -> list[int]:
    plugin = counting_plugin()
    begin, end = (address(program, f"bench_{edge}") for edge in ("begin", "end"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "counts")
        flags = ["-plugin", f"{plugin},begin={begin:#x},end={end:#x},out={out}"]
        run = subprocess.run(argv(cpu, program, words, flags), capture_output=True, text=True)
        counts = [int(line) for line in out.read_text().split()] if out.exists() else []
    # Semihosting writes to the latter, after what the emulator has to say.
    answer = run.stdout.split() or run.stderr.split()[-3:]
    if run.returncode or not answer or not counts:
        raise EdgesvitError(f"{program.name} on {cpu}: exit status {run.returncode} {run.stderr}")
    wrong, *more = map(int, answer)
    if wrong:
        raise EdgesvitError(f"{words[0]} on {cpu}: {wrong} outputs differ from the definition")
    return [counts[-1], *more]  # the last of the runs: everything is prepared


def argv(cpu: str, program: Path, words: list[str], flags: list[str]) -> list[str]:
    """The emulator's command line, `flags` its own."""
    if cpu not in MCU:
        return [need("qemu-aarch64"), "-cpu", cpu, *flags, str(program), *words]
    emulator = load(MCU[cpu][0]).emulator
    line = ",".join(f"arg={word}" for word in ["spike_layer", *words])
    return [need(emulator.program), "-machine", emulator.machine, "-nodefaults", "-display",
            "none", "-semihosting-config", f"enable=on,target=native,{line}", *flags,
            "-kernel", str(program)]


def address(elf: Path, name: str) -> int:
    """Of a function."""
    listing = subprocess.run([need("nm"), str(elf)], capture_output=True, text=True, check=True)
    return next(int(line.split()[0], 16) & ~1 for line in listing.stdout.splitlines()
                if line.endswith(f" {name}"))
