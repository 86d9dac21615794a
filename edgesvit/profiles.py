"""Memory profiles: what a deployment must fit beside the target's own memory."""

import tomllib
from pathlib import Path

import msgspec

from edgesvit.errors import UsageError
from edgesvit.resources import shipped


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What compression may do to get there."""

    groups: tuple[str, ...] = ("hidden", "qk", "v", "attention", "stem", "embed", "conv", "sep",
                               "mix")
    max_rate: float = 0.9  # share of a group's channels that may go
    fine_tune_epochs: int = 0


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets, any subset of them, and the recipe allowed to reach them."""

    name: str
    title: str
    weights_bytes: int | None = None
    arena_bytes: int | None = None
    max_accuracy_drop: float | None = None  # percentage points
    recipe: Recipe = Recipe()


def load(name: str) -> Profile:
    """The profile called `name`, or the one in the TOML file at path `name`; else UsageError."""
    folder = shipped("profiles")
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise UsageError(f"unknown profile {name!r}; known: {known}",
                         "or give the path of a .toml file")
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Profile)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name}: {error}", "see docs/targets.md") from None
