"""The documentation says what the code does."""

import re
from pathlib import Path

import pytest

from edgesvit import errors, targets
from edgesvit.cli import VERBS
from edgesvit.targets import Target

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def everything() -> str:
    return "".join(p.read_text() for p in (ROOT / "README.md", *DOCS.glob("*.md")))


def test_the_command_line_page_is_the_help():
    pytest.importorskip("torch")  # `train` is among the verbs
    from edgesvit.cli.reference import reference

    assert (DOCS / "cli.md").read_text() == reference(), "run: make docs"


@pytest.mark.parametrize("name", targets.names())
def test_every_target_is_documented(name):
    assert f"`{name}`" in everything()


@pytest.mark.parametrize("field", Target.__struct_fields__)
def test_every_target_field_is_documented(field):
    text = (DOCS / "targets.md").read_text()
    assert re.search(rf"`(\[+)?{field}(\]+)?`", text)


@pytest.mark.parametrize("kind", [e for e in vars(errors).values() if isinstance(e, type)])
def test_every_exit_code_is_documented(kind):
    assert re.search(rf"^\| {kind.exit_code} \|", (ROOT / "README.md").read_text(), re.M)


@pytest.mark.parametrize("verb", VERBS)
def test_the_readme_shows_every_verb(verb):
    assert f"edgesvit {verb}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")) + [ROOT / "README.md"],
                         ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link
