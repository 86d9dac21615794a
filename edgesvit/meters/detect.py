"""Which meters are plugged in: candidates by USB identity, each confirmed by its own answer."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgesvit.errors import EdgesvitError, Unreachable
from edgesvit.meters.address import open_meter
from edgesvit.meters.samples import About

# USB vendor and product -> kinds to ask for. One identity can be several things: an STM32's own
# serial port is a LPM01A or a TC66C, and a bridge has that of its debugger or adapter.
_BRIDGES = ("ina228",)  # whatever chip it carries, the bridge says so
KINDS: dict[tuple[int, int], tuple[str, ...]] = {
    (0x1915, 0xC00A): ("ppk2",),
    (0x0483, 0x5740): ("tc66c", "lpm01a", *_BRIDGES),
    (0x2E8A, 0x000A): _BRIDGES, (0x10C4, 0xEA60): _BRIDGES, (0x1A86, 0x7523): _BRIDGES,
    (0x0403, 0x6001): _BRIDGES,
    **{(0x0483, product): _BRIDGES for product in
       (0x374A, 0x374B, 0x3752, 0x374E, 0x374F, 0x3753, 0x3754)},
}
_ANY_VOLTAGE = {"ppk2": "=3300"}  # asking who it is switches nothing on


@dataclass(frozen=True)
class Found:
    """A meter that said who it is."""

    address: str
    about: About


def serial_ports() -> list:
    """What pyserial knows of this machine's ports: device, vid, pid, serial_number, description."""
    from edgesvit.boards.serial import list_ports

    return list(list_ports.comports())


def detect(ports: Iterable) -> list[Found]:
    """The meters among `ports`. A PPK2's second port and boards of other kinds do not answer."""
    found: list[Found] = []
    for port in sorted(ports, key=lambda port: port.device):
        for kind in KINDS.get((port.vid, port.pid), ()):
            if meter := _confirmed(kind, port.device):
                found.append(meter)
                break
    return found


def the_only(ports: Iterable) -> str:
    """The address behind `--meter auto`; Unreachable when there is none, or more than one."""
    found = detect(ports)
    if len(found) == 1:
        return found[0].address
    if not found:
        raise Unreachable("--meter auto: no meter answers on any port",
                          "`edgesvit doctor` lists the ports; --meter ppk2:PORT=3300 names one")
    names = ", ".join(meter.address for meter in found)
    raise Unreachable(f"--meter auto: {len(found)} meters answer: {names}",
                      f"choose one: --meter {found[0].address}")


def _confirmed(kind: str, device: str) -> Found | None:
    where = device + _ANY_VOLTAGE.get(kind, "")
    try:
        meter = open_meter(f"{kind}:{where}")
    except EdgesvitError as error:
        # A bridge with another chip than asked for says which.
        address = error.hint.removeprefix("--meter ")
        if kind not in _BRIDGES or not address.endswith(f":{device}"):
            return None
        return _confirmed(address.partition(":")[0], device)
    meter.close()
    return Found(f"{meter.about.kind}:{where}", meter.about)
