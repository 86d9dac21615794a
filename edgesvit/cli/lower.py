"""`edgesvit lower`: what would be put on a board, as files."""

import shutil
from pathlib import Path

import click

from edgesvit.cli import options
from edgesvit.cli.output import print_json
from edgesvit.deploy import prepare
from edgesvit.lower.artifact import Artifact
from edgesvit.lower.runtimes import lower as lower_to
from edgesvit.report.table import table


@click.command(epilog="Example: edgesvit lower --target nucleo-h743zi")
@click.option("--target", "names", multiple=True, required=True, metavar="NAME[,NAME...]",
              help="See `edgesvit targets`.")
@options.model
@options.data
@options.run
@options.runtime
@options.twin
@options.as_json
def lower(names: tuple[str, ...], model: str | None, data: str | None, run: str | None,
          runtime: str, twin: bool, as_json: bool) -> None:
    """Build the program and what each target needs to run it into the run folder."""
    source = options.model_folder(model)
    folder = options.run_folder(run, source)
    deployment = prepare(source, folder, options.dataset(data, source), 1,
                         options.calibration(data, source, runtime, twin))
    answer = []
    for target in options.target_list(names):
        artifact = lower_to(deployment.path, target, runtime, deployment.calibration, twin)
        place = folder.path / target.name
        _copy(artifact, place)
        answer.append({"target": target.name, "runtime": artifact.runtime,
                       "executable": str(place / artifact.executable.name),
                       "files": [str(place / path.name) for path in artifact.files],
                       "linked_bytes": artifact.linked_bytes, "lowering": artifact.notes})
    if as_json:
        print_json({"command": "lower", "program": str(deployment.path), "artifacts": answer})
        return
    click.echo(f"program: {deployment.path}")
    rows = [(a["target"], use, size, a["executable"])
            for a in answer for use, size in a["linked_bytes"].items()]
    click.echo(table(("target", "use", "linked bytes", "executable"), rows))
    for a in answer:
        for word, said in a["lowering"].items():
            click.echo(f"{a['target']}: {word}: {_told(said)}")


def _copy(artifact: Artifact, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in (artifact.executable, *artifact.files):
        shutil.copy(path, place / path.name)


def _told(said: object) -> object:
    return ", ".join(map(str, said)) or "none" if isinstance(said, list) else said
