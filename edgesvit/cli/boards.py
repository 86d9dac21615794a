"""What `deploy` and `measure` share: the same work on every target, side by side."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import click

from edgesvit.boards.side_by_side import side_by_side
from edgesvit.cli.output import error_record, note, print_error, progress
from edgesvit.errors import EdgesvitError
from edgesvit.targets import Target

R = TypeVar("R")
Run = Callable[[Callable[[str], None], Callable[[int], None]], R]  # (note, progress) -> result
Failed = list[tuple[str, EdgesvitError]]


def on_boards(targets: Sequence[Target], images: int, ready: Callable[[Target], Run],
              store: Callable[[R], None] = lambda result: None) -> tuple[list[R], Failed]:
    """The result of each target, and the errors of those that failed, in the order of `targets`.

    `ready` makes a target's work ready, one after the other; what it returns runs on the board, at
    the same time as the others'. Each result is stored before the next.
    """
    works, failed = {}, {}
    for target in targets:
        try:
            works[target.name] = ready(target)
        except EdgesvitError as error:
            failed[target.name] = error
    chosen = [target for target in targets if target.name in works]
    storing = threading.Lock()

    def run(target: Target, done: Callable[[int], None]) -> R:
        result = works[target.name](partial(_note, target.name, len(targets) > 1), done)
        with storing:
            store(result)
        return result

    with progress(images) as bar:
        jobs = [partial(run, target, bar(target.name)) for target in chosen]
        ended = dict(zip((target.name for target in chosen), side_by_side(chosen, jobs),
                         strict=True))
    failed |= {name: end for name, end in ended.items() if isinstance(end, EdgesvitError)}
    for target in targets:
        if target.name in failed:
            print_error(failed[target.name])
    return ([ended[target.name] for target in targets if target.name not in failed],
            [(target.name, failed[target.name]) for target in targets if target.name in failed])


def failures(failed: Failed) -> list[dict]:
    """Those errors as they appear in JSON."""
    return [{"target": name, **error_record(error)} for name, error in failed]


def leave(failed: Failed) -> None:
    """Exit with the first failed target's code; return when there is none."""
    if failed:
        raise click.exceptions.Exit(failed[0][1].exit_code)


def _note(name: str, several: bool, text: str) -> None:
    note(f"{name}: {text}" if several else text)
