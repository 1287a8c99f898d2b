"""The coverage table is complete, and the document shows it as it is."""

from pathlib import Path

import pytest

from sandbox.app import create_app
from sandbox.core import open_sandbox
from sandbox.coverage import BEHAVIOURS, ROUTES, render

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"


def test_every_route_of_the_app_is_in_the_table(tmp_path: Path) -> None:
    """A call that is served but not in the table, or in the table but not served, is a mistake."""
    sandbox = open_sandbox(tmp_path)
    paths = create_app(sandbox, lambda: None).openapi()["paths"]
    sandbox.store.close()
    served = {(m.upper(), p) for p, ways in paths.items() for m in ways if not p.startswith("/_sandbox")}
    assert served == {(route.method, route.path.replace(":path", "")) for route in ROUTES}


def test_the_document_shows_the_table_as_it_is() -> None:
    """docs/sandbox.md holds what `python -m sandbox coverage` prints."""
    assert render() in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", [*ROUTES, *BEHAVIOURS], ids=str)
def test_every_row_says_how_it_is_known(row: object) -> None:
    """No emulated behaviour is without a source."""
    assert getattr(row, "known")  # noqa: B009 -- two kinds of rows
