"""Options that several verbs share, spelled the same everywhere."""

from pathlib import Path

import click
import numpy as np

from edgesvit import profiles
from edgesvit import targets as registry
from edgesvit.data import load
from edgesvit.data.dataset import Dataset, spread
from edgesvit.lower.runtimes import CALIBRATION_IMAGES, RUNTIMES
from edgesvit.profiles import Profile
from edgesvit.resources import shipped_model
from edgesvit.run_folder import RunFolder
from edgesvit.targets import Target

DEFAULT_MODEL = "spikformer-digits"

model = click.option("--model", metavar="FOLDER",
                     help="A run folder, or a trained model that ships: spikformer-digits (the "
                          "default), qkformer-digits, sdt_v1-digits, sdt_v2-digits, sdt_v3-digits.")
data = click.option("--data", metavar="NAME[:PATH]",
                    help="Held-out images. Default: what the model was trained on.")
run = click.option("--run", metavar="FOLDER", help="Where results go. Default: runs/MODEL.")
profile = click.option("--profile", metavar="NAME", help="Memory profile. Default: the target's.")
runtime = click.option("--runtime", default="native", show_default=True, metavar="NAME",
                       type=click.Choice(tuple(RUNTIMES)),
                       help=f"What runs the program on the board: {', '.join(RUNTIMES)}.")
twin = click.option("--twin", is_flag=True,
                    help="In its place a dense int8 network of the same shape, one pass, untrained:"
                         " for its time alone.")
as_json = click.option("--json", "as_json", is_flag=True, help="The answer as JSON on stdout.")


def model_folder(name: str | None) -> RunFolder:
    """The run folder of `--model`; a folder goes before a shipped model of the same name."""
    own = Path(name or "")
    if name and (own.exists() or not shipped_model(name).is_dir()):
        return RunFolder(own)
    return RunFolder(shipped_model(name or DEFAULT_MODEL))


def run_folder(name: str | None, source: RunFolder) -> RunFolder:
    """The folder of `--run`, or one beside the current directory named after the model."""
    return RunFolder(name) if name else RunFolder(Path("runs") / source.path.name)


def dataset(name: str | None, source: RunFolder) -> Dataset:
    """The held-out split of `--data`, or of what the model was trained on."""
    return load(name or source.card().data, "test")


def calibration(name: str | None, source: RunFolder, runtime: str, twin: bool
                ) -> np.ndarray | None:
    """Training images uint8 [n, H, W, C] for a runtime that wants any, spread over the classes."""
    if not (twin or RUNTIMES[runtime].calibrates):
        return None
    train = load(name or source.card().data, "train")
    return train.images[spread(len(train), CALIBRATION_IMAGES)]


def target_list(names: tuple[str, ...]) -> list[Target]:
    """The targets of repeated or comma-separated `--target` options, each once."""
    once = dict.fromkeys(name for group in names for name in group.split(",") if name)
    return [registry.load(name) for name in once]


def profile_for(name: str | None, target: Target) -> Profile:
    """The profile of `--profile`, or the target's own."""
    return profiles.load(name or target.default_profile)
