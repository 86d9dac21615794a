"""The command line: one file a verb; here only the list of verbs and what errors look like."""

import importlib
import sys

import click

from edgesvit import __version__
from edgesvit.cli.output import print_error
from edgesvit.errors import EdgesvitError

VERBS = ("targets", "models", "train", "inspect", "compress", "lower", "deploy", "measure",
         "report", "doctor")
INTERRUPTED = 130


class _Verbs(click.Group):
    """Imports a verb's file only when it is called: `targets` need not wait for torch."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return getattr(importlib.import_module(f"edgesvit.cli.{name}"), name)


@click.group(cls=_Verbs)
@click.version_option(__version__, prog_name="edgesvit")
def cli() -> None:
    """Take a spiking vision transformer to a running, measured program on a small board.

    Exit codes: 0 done, 1 failed, 2 usage, 3 does not fit, 4 board unreachable, 5 the board's
    result differs, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script: never a traceback for what a user can cause."""
    as_json = "--json" in (sys.argv if arguments is None else arguments)
    try:
        status = cli.main(arguments, prog_name="edgesvit", standalone_mode=False) or 0
    except EdgesvitError as error:
        status = print_error(error, as_json)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; nothing can be said to it any more.
        sys.stderr.close()
        status = 1
    except OSError as error:
        # A cache or run folder that cannot be written, a temporary folder that is full.
        where = f"{error.filename}: " if error.filename else ""
        status = print_error(EdgesvitError(f"{where}{error.strerror or error}"), as_json)
    sys.exit(status)
