"""docs/cli.md, made from the commands: `python -m edgesvit.cli.reference > docs/cli.md`."""

import click

from edgesvit.cli import VERBS, cli

WIDTH = 98


def reference() -> str:
    """The help of every verb as one Markdown page."""
    parts = ["# Command line\n\nThe help pages of `edgesvit`, word for word; `make docs` writes "
             "this file.\n"]
    # A fixed width: the page must not depend on the terminal it is made in.
    top = click.Context(cli, info_name="edgesvit", terminal_width=WIDTH, max_content_width=WIDTH)
    parts.append(_section(top))
    for name in VERBS:
        verb = _below(top, name)
        parts.append(_section(verb))
        if isinstance(verb.command, click.Group):
            parts += [_section(_below(verb, sub)) for sub in verb.command.list_commands(verb)]
    return "".join(parts)


def _below(parent: click.Context, name: str) -> click.Context:
    command = parent.command.get_command(parent, name)
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH,
                         max_content_width=WIDTH)


def _section(context: click.Context) -> str:
    help_text = context.command.get_help(context)
    return f"\n## {context.command_path}\n\n```text\n{help_text}\n```\n"


if __name__ == "__main__":
    print(reference(), end="")
