"""A microcontroller behind a serial port, real or emulated: the same steps for both."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import serial

from edgesvit.boards.hosts import serial_port_for
from edgesvit.boards.qemu_mcu import emulated_mcu
from edgesvit.boards.serial import open_port
from edgesvit.errors import ResultDiffers, Unreachable
from edgesvit.lower.native import lower
from edgesvit.measure.protocol import Identity, SerialSession
from edgesvit.measure.run import BoardRun
from edgesvit.program.file import crc32
from edgesvit.targets import Target

Note = Callable[[str], None]


def run_serial(target: Target, program: Path, images: np.ndarray, note: Note,
               progress: Callable[[int], None]) -> BoardRun:
    """Build the firmware, reach the board, run every image, ask it what memory it used."""
    artifact = lower(program, target)
    with _port(target, artifact.executable, note) as port:
        session = SerialSession(port)
        identity = session.hello()
        _require_program(identity, target, program, artifact.executable)
        if not session.check():
            raise ResultDiffers(f"{target.name}: the board fails its self-check vector",
                                "no time is shown for a wrong result")
        scale = session.ticks_per_instruction() if target.emulator else None
        inferences = []
        for image in images:
            inferences.append(session.infer(image))
            progress(len(inferences))
        used = session.memory()
    ticks = [run.ticks for run in inferences]
    return BoardRun(
        logits=np.stack([run.logits for run in inferences]),
        instructions=[round(count / scale) for count in ticks] if scale else None,
        # Only a real board's cycle counter is a clock.
        latency_us=None if scale else [1e6 * count / target.clock_hz for count in ticks],
        linked_bytes=artifact.linked_bytes,
        observed_bytes={"code": used["code"], "weights": used["weights"],
                        "arena": used["arena_used"], "stack": used["stack_used"],
                        "io": used["data"]},
        environment={"board": identity.board, "firmware": identity.firmware,
                     "timer": identity.timer, "ticks_per_instruction": scale},
        retries=session.retries,
    )


def _port(target: Target, elf: Path, note: Note) -> AbstractContextManager[serial.SerialBase]:
    if target.emulator:
        return emulated_mcu(target, elf)
    device = serial_port_for(target.name)
    note(f"firmware: {elf}")
    return closing(open_port(device, target.uart.baud))


def _require_program(identity: Identity, target: Target, program: Path, elf: Path) -> None:
    if identity.model != crc32(program):
        raise Unreachable(f"{target.name}: the board runs program {identity.model}, not "
                          f"{crc32(program)}", f"flash {elf} and deploy again")
