"""docs/cli.md, made from the commands: `python -m edgesvit.cli.reference > docs/cli.md`."""

import click

from edgesvit.cli import VERBS, cli

WIDTH = 98


def reference() -> str:
    """The help of every verb as one Markdown page."""
    parts = ["# Command line\n\nThe help pages of `edgesvit`, word for word; `make docs` writes "
             "this file.\n"]
    for name in ("", *VERBS):
        parts.append(f"\n## edgesvit {name}".rstrip() + "\n\n```text\n" + _help(name) + "\n```\n")
    return "".join(parts)


def _help(name: str) -> str:
    # A fixed width: the page must not depend on the terminal it is made in.
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    top = click.Context(cli, info_name="edgesvit", **settings)
    if not name:
        return cli.get_help(top)
    command = cli.get_command(top, name)
    return command.get_help(click.Context(command, info_name=name, parent=top, **settings))


if __name__ == "__main__":
    print(reference(), end="")
