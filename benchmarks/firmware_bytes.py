"""What the serial protocol, the timer and MLPerf Tiny's commands add to a firmware.

    python benchmarks/firmware_bytes.py [--target qemu-mps2-an386 ...]

The firmware is linked as it ships, without MLPerf Tiny's commands, and bare: a main loop that only
infers, without port, protocol or timer. Every one with --gc-sections, around the default model.
Flash is code with the initial values of variables, RAM the variables; stack, arena and program are
the same in all. The input that is kept for a second run lies in memory that was left over.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgesvit import targets  # noqa: E402
from edgesvit.cli.options import dataset, model_folder  # noqa: E402
from edgesvit.evaluate import program_of  # noqa: E402
from edgesvit.lower import compile, firmware  # noqa: E402
from edgesvit.program import file  # noqa: E402
from edgesvit.report.table import table  # noqa: E402
from edgesvit.targets import Target  # noqa: E402

OWN = Path(__file__).parent / "firmware"
OURS = ("commands.c", "main.c", "mlperf.c", "protocol.c", "timer.c", "work.c")
# name -> files of firmware/cortex_m that are left out, and what takes their place
VARIANTS = {"bare": (OURS, "bare.c"), "without MLPerf": (("mlperf.c",), "no_mlperf.c"),
            "as it ships": ((), "")}
HEADER = ("target", "firmware", "flash bytes", "RAM bytes", "more than bare, flash", "RAM")


def linked(target: Target, program: Path, variant: str) -> dict[str, int]:
    """Bytes by use of the firmware around `program`, linked as firmware.py does."""
    without, instead = VARIANTS[variant]
    sources, headers = firmware._sources(target)
    chosen = [path for path in sources if path.name not in without]
    chosen += [OWN / instead] if instead else []
    weights = firmware.staged(program.read_bytes(), "program.esv")
    script = firmware.staged(firmware.linker_script(
        target, file.arena_bytes(program), firmware.STACK_BYTES).encode(), "link.ld")
    flags = (*firmware.FLAGS, *target.compiler_flags, *firmware._includes(),
             *firmware._defines(target))
    elf = compile.build(firmware.COMPILER, chosen, flags, f"{target.name}.elf",
                        (*headers, weights, script),
                        (f'-DPROGRAM_FILE="{weights}"', "-T", str(script)))
    return firmware.read_back(target, elf).sections


def rows(target: Target, program: Path):
    """A row of HEADER for each variant."""
    bare = linked(target, program, "bare")
    for variant in VARIANTS:
        uses = linked(target, program, variant)
        yield (target.name, variant, uses["code"], uses["io"], uses["code"] - bare["code"],
               uses["io"] - bare["io"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+",
                        default=["qemu-mps2-an386", "nucleo-f446re", "nucleo-h743zi"])
    options = parser.parse_args()
    source = model_folder(None)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.esv")
        file.write(program_of(source.card(), source.weights(), dataset(None, source)), program)
        found = [row for name in options.target for row in rows(targets.load(name), program)]
    print(table(HEADER, found))


if __name__ == "__main__":
    main()
