"""What every verb shares: notes on stderr, answers on stdout, errors in one form."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgesvit.errors import EdgesvitError

SCHEMA_VERSION = 1
console = Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """One line for the person watching, on stderr."""
    console.print(text, style="dim", soft_wrap=True, markup=False)


def print_json(answer: dict) -> None:
    """The answer as one JSON document on stdout, with the schema's version."""
    click.echo(msgspec.json.format(msgspec.json.encode(
        {"schema_version": SCHEMA_VERSION, **answer})).decode())


def error_record(error: EdgesvitError) -> dict[str, object]:
    """An error as it appears in JSON."""
    return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def print_error(error: EdgesvitError, as_json: bool = False) -> int:
    """Say what went wrong and what to type next; returns the exit code."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if as_json:
        print_json({"error": error_record(error)})
    return error.exit_code


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """Progress bars on stderr: call it with a title for a bar, call that with how many are done.
    Silent when not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True,
                  disable=not sys.stderr.isatty()) as bar:
        def add(title: str) -> Callable[[int], None]:
            task = bar.add_task(title, total=total)
            return lambda done: bar.update(task, completed=done)

        yield add
