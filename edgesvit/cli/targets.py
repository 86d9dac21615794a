"""`edgesvit targets`: the boards that edgesvit knows."""

import click
import msgspec

from edgesvit import targets as registry
from edgesvit.cli.output import print_json
from edgesvit.report.table import table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything about every target, as JSON.")
def targets(as_json: bool) -> None:
    """List the boards, emulated ones included."""
    known = [registry.load(name) for name in registry.names()]
    if as_json:
        print_json({"targets": [msgspec.to_builtins(target) for target in known]})
        return
    rows = [(t.name, t.transport, t.cpu, _kib(t, "weights"), _kib(t, "arena"), t.title)
            for t in known]
    click.echo(table(("target", "transport", "cpu", "weights KiB", "arena KiB", "board"), rows))


def _kib(target: registry.Target, use: str) -> int:
    return target.region_for(use).bytes // 1024
