"""`edgesvit measure`: time and energy of an inference, and what could have changed them."""

import click
import msgspec

from edgesvit.cli import options
from edgesvit.cli.boards import Run, failures, leave, on_boards
from edgesvit.cli.output import note, print_json
from edgesvit.deploy import prepare
from edgesvit.errors import UsageError
from edgesvit.measure.windows import Plan
from edgesvit.measurement import ready as ready_for
from edgesvit.meters import address
from edgesvit.report.measurement import measurement_table
from edgesvit.targets import Target


@click.command(
    epilog="Example: edgesvit measure --target nucleo-f446re --meter ppk2:/dev/ttyACM1@3300")
@click.option("--target", "names", multiple=True, required=True, metavar="NAME[,NAME...]",
              help="Where to run; see `edgesvit targets`. May be given several times.")
@click.option("--meter", metavar="KIND:WHERE",
              help="What measures the power: KIND is one of "
                   f"{', '.join([*address.HERE, *address.ON_BOARD, *address.FILES])}; `auto` takes "
                   "the one that is plugged in. docs/meters.md says what WHERE is.")
@options.model
@options.data
@click.option("--images", default=20, show_default=True, type=click.IntRange(1),
              help="Held-out images to run in turn.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.01, 3600),
              help="Least length of a window; ten inferences at least.")
@click.option("--windows", default=5, show_default=True, type=click.IntRange(1, 1000),
              help="How many windows.")
@click.option("--idle", default=5.0, show_default=True, type=click.FloatRange(0, 3600),
              help="Seconds of rest before them, for the power that is not the inference's.")
@options.profile
@options.run
@options.runtime
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64),
              help="Threads that share the work of one image, on boards with Linux.")
@click.option("--layers", is_flag=True,
              help="Also what each operator takes, in runs of their own.")
@options.as_json
def measure(names: tuple[str, ...], meter: str | None, model: str | None, data: str | None,
            images: int, seconds: float, windows: int, idle: float, profile: str | None,
            run: str | None, runtime: str, threads: int, layers: bool, as_json: bool) -> None:
    """Measure time and energy of an inference on a board, in windows of many inferences.

    Every result, with all samples and the conditions it was taken in, is appended to results.jsonl
    in the run folder; `edgesvit report` compares them. Several boards work side by side, this
    machine itself before them. Where board or meter is emulated, time is
    not shown and energy says that it is emulated.
    """
    targets = options.target_list(names)
    if meter and len(targets) > 1:
        raise UsageError(f"one meter cannot measure {len(targets)} boards at once",
                         "measure one --target after the other")
    if meter == "auto":
        from edgesvit.meters.detect import serial_ports, the_only

        meter = the_only(serial_ports())
        note(f"meter: {meter}")
    elif meter:
        address.split(meter)
    source = options.model_folder(model)
    folder = options.run_folder(run, source)
    held_out = options.dataset(data, source)
    if images > len(held_out):
        raise UsageError(f"{held_out.name} has {len(held_out)} held-out images, not {images}",
                         f"--images {len(held_out)}")
    prepared = prepare(source, folder, held_out, images,
                       options.calibration(data, source, runtime, False))
    plan = Plan(seconds, windows, idle)

    def ready(target: Target) -> Run:
        return ready_for(prepared, target, options.profile_for(profile, target), folder, plan,
                         meter, threads, layers, runtime)

    results, failed = on_boards(targets, images, ready)
    if as_json:
        print_json({"command": "measure", "results": msgspec.to_builtins(results),
                    "errors": failures(failed)})
    elif results:
        click.echo(measurement_table(msgspec.to_builtins(results)))
        note(f"results: {folder.results_path}")
    leave(failed)
