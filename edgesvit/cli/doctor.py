"""`edgesvit doctor`: what is here, what is plugged in, and what to install."""

import importlib.util
import shutil

import click

from edgesvit import __version__
from edgesvit.boards.flash import INSTALL
from edgesvit.boards.found import name
from edgesvit.boards.hosts import boards_file, entries
from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.lower.compile import PACKAGES
from edgesvit.meters.detect import detect, serial_ports
from edgesvit.report.table import table

# Python packages that some verbs need.
EXTRAS = {"torch": "pip install 'edgesvit[train]'", "PIL": "pip install 'edgesvit[images]'",
          "pyjoulescope_driver": "pip install pyjoulescope-driver"}


@click.command(epilog="Example: edgesvit doctor --json")
@options.as_json
def doctor(as_json: bool) -> None:
    """List the tools, serial ports, debug probes, boards and meters that are found here, and what
    to install for those that are not.

    Meters are asked who they are on every port that may have one; nothing is switched.
    """
    ports = serial_ports()
    told = {"version": __version__, "tools": _tools(), "ports": [_port(port) for port in ports],
            "boards": [{"target": target, **where} for target, where in entries().items()],
            "boards_file": str(boards_file()),
            "meters": [{"address": meter.address, "kind": meter.about.kind,
                        "serial": meter.about.serial} for meter in detect(ports)]}
    if as_json:
        print_json({"command": "doctor", **told})
        return
    click.echo(table(("tool", "for", "is"), [
        (tool["name"], tool["for"], tool["path"] or f"missing: {tool['install']}")
        for tool in told["tools"]]))
    click.echo("\nserial ports and probes: " + (_listed(
        f"{port['device']} {port['known_as'] or port['description']}" for port in told["ports"])))
    click.echo("meters: " + _listed(meter["address"] for meter in told["meters"]))
    click.echo(f"boards in {told['boards_file']}: "
               + _listed(f"{board['target']} at {board['host'] or board['serial']}"
                         for board in told["boards"]))


def _listed(items) -> str:
    return "".join(f"\n  {item}" for item in items) or "none"


def _tools() -> list[dict]:
    """Each program and package, where it is, and how it comes here."""
    def row(tool: str, purpose: str, path: str | None, install: str) -> dict:
        return {"name": tool, "for": purpose, "path": path, "install": install}

    rows = [row(tool, "build and emulate", shutil.which(tool), f"apt-get install {package}")
            for tool, package in PACKAGES.items()]
    rows += [row(tool, "flash", shutil.which(tool), how) for tool, how in INSTALL.items()
             if tool != "uf2"]  # a copy, no program
    for module, how in EXTRAS.items():
        found = importlib.util.find_spec(module)
        rows.append(row(module, "Python package", found and (found.origin or "namespace"), how))
    return rows


def _port(port) -> dict:
    return {"device": port.device, "vid": port.vid, "pid": port.pid,
            "serial": port.serial_number, "description": port.description,
            "known_as": name(port.vid, port.pid)}
