"""`edgesvit lower`: what would be put on a board, as files."""

import shutil

import click

from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.deploy import prepare
from edgesvit.lower.native import lower as lower_to
from edgesvit.report.table import table


@click.command(epilog="Example: edgesvit lower --target nucleo-h743zi")
@click.option("--target", "names", multiple=True, required=True, metavar="NAME[,NAME...]",
              help="See `edgesvit targets`.")
@options.model
@options.data
@options.run
@options.as_json
def lower(names: tuple[str, ...], model: str | None, data: str | None, run: str | None,
          as_json: bool) -> None:
    """Build the program and the executable of each target into the run folder."""
    source = options.model_folder(model)
    folder = options.run_folder(run, source)
    deployment = prepare(source, folder, options.dataset(data, source), 1)
    answer = []
    for target in options.target_list(names):
        artifact = lower_to(deployment.path, target)
        place = folder.path / target.name / artifact.executable.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.executable, place)
        shutil.copymode(artifact.executable, place)
        answer.append({"target": target.name, "executable": str(place),
                       "linked_bytes": artifact.linked_bytes})
    if as_json:
        print_json({"command": "lower", "program": str(deployment.path), "artifacts": answer})
        return
    click.echo(f"program: {deployment.path}")
    rows = [(a["target"], use, size, a["executable"])
            for a in answer for use, size in a["linked_bytes"].items()]
    click.echo(table(("target", "use", "linked bytes", "executable"), rows))
