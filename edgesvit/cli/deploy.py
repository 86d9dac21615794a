"""`edgesvit deploy`: a model on a board, proven and timed."""

import shlex

import click
import msgspec

from edgesvit.cli import options
from edgesvit.cli.boards import Run, failures, leave, on_boards
from edgesvit.cli.output import note, print_json
from edgesvit.data.dataset import Dataset
from edgesvit.deploy import Deployment, prepare, require_fit
from edgesvit.deploy import ready as ready_for
from edgesvit.errors import DoesNotFit, UsageError
from edgesvit.profiles import Profile
from edgesvit.report.deployment import deployment_table
from edgesvit.run_folder import RunFolder
from edgesvit.targets import Target


@click.command(epilog="Example: edgesvit deploy --target qemu-mps3-an547 --images 50")
@click.option("--target", "names", multiple=True, required=True, metavar="NAME[,NAME...]",
              help="Where to run; see `edgesvit targets`. May be given several times.")
@options.model
@options.data
@click.option("--images", default=20, show_default=True, type=click.IntRange(1),
              help="Held-out images to run on the target.")
@options.profile
@options.run
@options.runtime
@options.twin
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64),
              help="Threads that share the work of one image, on boards with Linux.")
@click.option("--dry-run", is_flag=True,
              help="Only print the commands that would write the firmware to the board.")
@click.option("--no-compress", is_flag=True, help="Fail when the model is too big, do not prune.")
@options.as_json
def deploy(names: tuple[str, ...], model: str | None, data: str | None, images: int,
           profile: str | None, run: str | None, runtime: str, twin: bool, threads: int,
           dry_run: bool, no_compress: bool, as_json: bool) -> None:
    """Make a model fit a board, put it there, run it and prove that the result is right.

    The table is the answer; every result is also appended to results.jsonl in the run folder.
    Several boards work side by side, this machine itself before them.
    """
    targets = options.target_list(names)
    source = options.model_folder(model)
    folder = options.run_folder(run, source)
    held_out = options.dataset(data, source)
    if images > len(held_out):
        raise UsageError(f"{held_out.name} has {len(held_out)} held-out images, not {images}",
                         f"--images {len(held_out)}")
    as_given = prepare(source, folder, held_out, images,
                       options.calibration(data, source, runtime, twin))
    if dry_run:
        _print_flashing(as_given, targets, runtime, as_json)
        return

    def ready(target: Target) -> Run:
        fitting = options.profile_for(profile, target)
        deployment = _fitting(as_given, source, folder, held_out, target, fitting, no_compress)
        return ready_for(deployment, target, fitting, threads, runtime, twin)

    results, failed = on_boards(targets, images, ready, lambda result: folder.append_result(
        msgspec.to_builtins(result)))
    if as_json:
        print_json({"command": "deploy", "results": msgspec.to_builtins(results),
                    "errors": failures(failed)})
    elif results:
        click.echo(deployment_table(results))
        note(f"results: {folder.results_path}")
    leave(failed)


def _fitting(as_given: Deployment, source: RunFolder, folder: RunFolder, data: Dataset,
             target: Target, profile: Profile, no_compress: bool) -> Deployment:
    """The model as given when it fits, else a pruned one; DoesNotFit when that is not allowed."""
    try:
        require_fit(as_given, target, profile,
                    f"edgesvit compress --model {source.path} --target {target.name}")
        return as_given
    except DoesNotFit as error:
        if no_compress:
            raise
        note(f"{error.message}\ncompressing")
    from edgesvit.compress.uniform import prune_to_fit

    fitted = RunFolder(folder.path / f"fit-{target.name}")
    prune_to_fit(source, fitted, target, profile, data, note)
    return prepare(fitted, fitted, data, len(as_given.images), as_given.calibration)


def _print_flashing(deployment: Deployment, targets: list[Target], runtime: str, as_json: bool
                    ) -> None:
    """The command lines of the flash tool that each target would be written with."""
    from edgesvit.boards.flash import commands, tool_for
    from edgesvit.lower.runtimes import lower

    told = []
    for target in targets:
        elf = lower(deployment.path, target, runtime).executable
        told.append({"target": target.name, "tool": tool_for(target),
                     "commands": commands(target, elf)})
    if as_json:
        print_json({"command": "deploy", "dry_run": told})
        return
    for entry in told:
        if not entry["tool"]:
            note(f"{entry['target']}: none of its flash tools is installed: edgesvit doctor")
        for words in entry["commands"]:
            click.echo(shlex.join(words))
