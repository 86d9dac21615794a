"""A microcontroller behind a serial port, real or emulated: the same steps for both."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import serial

from edgesvit.boards.flash import flash
from edgesvit.boards.hosts import serial_port_for
from edgesvit.boards.qemu_mcu import emulated_mcu
from edgesvit.boards.serial import open_port
from edgesvit.errors import ResultDiffers, Unreachable
from edgesvit.lower.artifact import Artifact
from edgesvit.measure.protocol import Identity, SerialSession
from edgesvit.measure.run import BoardRun
from edgesvit.targets import Target

Note = Callable[[str], None]


def run_serial(target: Target, artifact: Artifact, images: np.ndarray, note: Note,
               progress: Callable[[int], None]) -> BoardRun:
    """Reach the board, run every image, ask it what memory it used."""
    with serial_board(target, artifact.executable, note) as port:
        session = SerialSession(port)
        put_there(session, target, artifact, note)
        return run_on(session, target, artifact, images, progress)


def put_there(session: SerialSession, target: Target, artifact: Artifact, note: Note) -> None:
    """Flash a real board that does not answer, or that runs another program."""
    if target.emulator:
        return
    try:
        _require_program(session.hello(), target, artifact)
    except Unreachable as error:
        note(f"{error.message}: flashing it")
        flash(target, artifact.executable, note)


def run_on(session: SerialSession, target: Target, artifact: Artifact, images: np.ndarray,
           progress: Callable[[int], None]) -> BoardRun:
    """Every image on a board that is connected, after it passed its self-check vector."""
    identity = session.hello()
    _require_program(identity, target, artifact)
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
        observed_bytes={"code": used["code"], "weights": used["weights"],
                        "arena": used["arena_used"], "stack": used["stack_used"],
                        "io": used["data"], "unpacked": used["unpacked"]},
        environment={"board": identity.board, "firmware": identity.firmware,
                     "timer": identity.timer, "ticks_per_instruction": scale},
        retries=session.retries,
    )


def serial_board(target: Target, elf: Path, note: Note
                 ) -> AbstractContextManager[serial.SerialBase]:
    """The open port of an emulated board, or of the user's own."""
    if target.emulator:
        return emulated_mcu(target, elf)
    device = serial_port_for(target.name)
    note(f"firmware: {elf}")
    return closing(open_port(device, target.uart.baud))


def _require_program(identity: Identity, target: Target, artifact: Artifact) -> None:
    if identity.model != artifact.program_crc32:
        raise Unreachable(f"{target.name}: the board runs program {identity.model}, not "
                          f"{artifact.program_crc32}", f"flash {artifact.executable} and deploy "
                          "again")
