"""Serial ports: the only file that knows pyserial."""

import serial
from serial.tools import list_ports

from edgesvit.errors import Unreachable

Port = serial.SerialBase  # an open port: read, write, in_waiting, timeout, close
WRITE_S = 5.0  # a port that takes no bytes for this long is broken


def open_port(where: str, baud: int = 115200) -> Port:
    """An open port: a device (`/dev/ttyACM0`, `COM3`) or a pyserial URL (`socket://host:port`).

    Raises Unreachable with the ports that are there when it cannot be opened. Later faults raise
    serial.SerialException, an OSError.
    """
    try:
        return serial.serial_for_url(where, baudrate=baud, write_timeout=WRITE_S, exclusive=True)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise Unreachable(f"cannot open serial port {where}: {error}", _ports_hint()) from None


def _ports_hint() -> str:
    found = [f"{port.device} ({port.description})" for port in list_ports.comports()]
    if not found:
        return "no serial port was found: is the board plugged in?"
    return f"ports found: {', '.join(found)}"
