"""`edgesvit report`: results of one or more runs side by side."""

import click

from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.errors import UsageError
from edgesvit.measure.measurement import differences
from edgesvit.report.measurement import measurement_table
from edgesvit.run_folder import RunFolder


@click.command(epilog="Example: edgesvit report runs/spikformer-digits runs/mine")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--target", "names", multiple=True, metavar="NAME",
              help="Only results of this target. May be given several times.")
@options.as_json
def report(runs: tuple[str, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Compare what `edgesvit measure` wrote to the run folders RUN.

    The newest result of each run, target and runtime. Below the table: why results of one target
    are not comparable, if they are not.
    """
    newest = [{**result, "run": run} for run in runs for result in _newest(run)
              if not names or result["target"] in names]
    if not newest:
        raise UsageError(f"no measurement in {', '.join(runs)}",
                         f"edgesvit measure --target host --run {runs[0]}")
    told = _told(newest)
    if as_json:
        print_json({"command": "report", "results": newest, "differences": told})
        return
    click.echo(measurement_table(newest))
    for entry in told:
        click.echo(f"{entry['target']}: {entry['runs'][0]} and {entry['runs'][1]} are not "
                   f"comparable: {'; '.join(entry['why'])}")


def _newest(run: str) -> list[dict]:
    """The last measurement of each target and runtime in a run folder."""
    last = {}
    for result in RunFolder(run).results():
        if result.get("kind") == "measure":
            last[_which(result)] = result
    return list(last.values())


def _which(result: dict) -> tuple[str, str]:
    return result["target"], result.get("runtime", "native")


def _told(results: list[dict]) -> list[dict]:
    """Each result that cannot be compared with the first one of its kind, and why."""
    first: dict[tuple[str, str], dict] = {}
    told = []
    for result in results:
        other = first.setdefault(_which(result), result)
        if why := differences(other, result):
            told.append({"target": result["target"], "runs": [other["run"], result["run"]],
                         "why": why})
    return told
