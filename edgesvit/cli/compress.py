"""`edgesvit compress`: prune a model until it fits a board."""

import click
import msgspec

from edgesvit.cli import options
from edgesvit.cli.output import note, print_json
from edgesvit.errors import UsageError
from edgesvit.report.table import table
from edgesvit.run_folder import RunFolder


@click.command(epilog="Example: edgesvit compress --model runs/wide --target nucleo-f446re")
@click.option("--target", "name", required=True, metavar="NAME", help="See `edgesvit targets`.")
@options.model
@options.data
@options.profile
@click.option("--run", metavar="FOLDER", help="Where the pruned model goes. "
              "Default: runs/MODEL-TARGET.")
@click.option("--fine-tune", "epochs", type=click.IntRange(0), metavar="EPOCHS",
              help="Train the pruned model on. Default: what the profile says.")
@options.as_json
def compress(name: str, model: str | None, data: str | None, profile: str | None,
             run: str | None, epochs: int | None, as_json: bool) -> None:
    """Prune channels uniformly, just enough for the target's memory, and write a new run folder."""
    try:
        from edgesvit.compress.fit import fit
    except ModuleNotFoundError as error:
        raise UsageError(f"compressing needs {error.name}",
                         "pip install 'edgesvit[train]'") from None
    [target] = options.target_list((name,))
    source = options.model_folder(model)
    out = RunFolder(run or f"runs/{source.path.name}-{target.name}")
    chosen = options.profile_for(profile, target)
    if epochs is not None:
        recipe = msgspec.structs.replace(chosen.recipe, fine_tune_epochs=epochs)
        chosen = msgspec.structs.replace(chosen, recipe=recipe)
    before = source.card()
    after = fit(source, out, target, chosen, options.dataset(data, source), note)
    if as_json:
        print_json({"command": "compress", "run": str(out.path), "target": target.name,
                    "card": msgspec.to_builtins(after)})
        return
    rows = [(field, str(getattr(before.config, field)), str(getattr(after.config, field)))
            for field in ("stem", "qk_dims", "v_dims", "hidden_dims")]
    click.echo(table(("channels", "before", "after"), rows))
    click.echo(f"run folder: {out.path}")
