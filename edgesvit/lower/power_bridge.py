"""The power bridge's firmware: an INA226 or INA228 and a trigger input behind a serial port."""

import msgspec

from edgesvit.errors import UsageError
from edgesvit.lower import compile, firmware
from edgesvit.resources import shipped
from edgesvit.targets import Target

BAUD = 500_000  # edgesvit/meters/bridge.py opens the port with it
STACK_BYTES = 2048


def boards() -> list[str]:
    """The targets that can be a bridge."""
    return [path.stem.removeprefix("board_").replace("_", "-")
            for path in sorted((shipped("firmware") / "power_bridge").glob("board_*.c"))]


def build_bridge(target: Target, simulated_chip: int = 228) -> firmware.Firmware:
    """Compile and link it for `target`; on an emulated core the chip is simulated: 226 or 228.

    Raises UsageError for a target that has no file in firmware/power_bridge.
    """
    folder, base = (shipped("firmware") / name for name in ("power_bridge", "cortex_m"))
    board = folder / f"board_{target.name.replace('-', '_')}.c"
    if not board.exists() or target.uart is None:
        raise UsageError(f"{target.name} cannot be a power bridge: no {board.name}",
                         f"one of {', '.join(boards())}")
    uart = msgspec.structs.replace(target.uart, baud=BAUD)
    script = firmware.staged(firmware.linker_script(target, 0, STACK_BYTES).encode(), "link.ld")
    sources = [*(folder / name for name in ("bridge.c", "ina.c")), board, base / "startup.c",
               base / "protocol.c"]
    headers = [*sorted(folder.glob("*.h")), *sorted(base.glob("*.h"))]
    flags = (*firmware.FLAGS, *target.compiler_flags, f"-I{folder}", f"-I{base}",
             f"-DUART_{uart.driver.upper()}", f"-DUART_BASE={uart.base:#x}u",
             f"-DUART_BAUD={uart.baud}", f"-DCLOCK_HZ={target.clock_hz}",
             f"-DSIMULATED_CHIP={simulated_chip}", "-T", str(script))
    elf = compile.build(firmware.COMPILER, sources, flags, f"bridge-{target.name}.elf",
                        depends=(*headers, script))
    return firmware.read_back(target, elf)
