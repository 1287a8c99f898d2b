"""The coverage table is complete, and the document shows it as it is."""

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from sandbox.app import create_app
from sandbox.core import open_sandbox
from sandbox.coverage import BEHAVIOURS, ROUTES, VENDORS, render, render_vendor
from sandbox.pictograph.coverage import BEHAVIOURS as PICTOGRAPH_BEHAVIOURS
from sandbox.pictograph.coverage import ROUTES as PICTOGRAPH_ROUTES
from sandbox.provenance import Behaviour, Provenance, Route

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"


@pytest.fixture
def served(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What the app serves: an OpenAPI operation for each method and path."""
    sandbox = open_sandbox(tmp_path)
    paths = create_app(sandbox, lambda: None).openapi()["paths"]
    sandbox.store.close()
    mine = {path: ways for path, ways in paths.items() if not path.startswith("/_sandbox")}
    return {(method.upper(), path): way for path, ways in mine.items() for method, way in ways.items()}


def test_every_route_of_the_app_is_in_the_table(served: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A call that is served but not in the table, or in the table but not served, is a mistake."""
    assert set(served) == {(route.method, route.path.replace(":path", "")) for route in ROUTES}


def test_the_table_names_the_dialects_the_app_serves(served: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A route that is closed to a dialect says so in the table, and the other way round."""
    told = {(route.method, route.path.replace(":path", "")): route.dialects for route in PICTOGRAPH_ROUTES}
    assert told == {key: served[key].get("x-dialect", "v1 v2") for key in told}
    assert {route.dialects for route in ROUTES if route not in PICTOGRAPH_ROUTES} <= {""}


@pytest.mark.parametrize("vendor", [vendor for vendor, (routes, _) in VENDORS.items() if routes])
def test_the_document_shows_the_table_as_it_is(vendor: str) -> None:
    """docs/sandbox.md holds what `python -m sandbox coverage` prints, vendor by vendor."""
    assert render_vendor(vendor) in DOCUMENT.read_text(encoding="utf-8")
    assert render_vendor(vendor) in render()


@pytest.mark.parametrize("row", [*ROUTES, *BEHAVIOURS], ids=str)
def test_every_row_says_how_it_is_known(row: Route | Behaviour) -> None:
    """Each row has sources of the six kinds, each once; a source in a note is one of them too."""
    noted = [word for word in get_args(Provenance) if isinstance(row, Route) and f"[{word}]" in row.note]
    assert row.known
    assert set(row.known) <= set(get_args(Provenance))
    assert max(Counter(row.known).values()) == 1
    assert not isinstance(row, Route) or row.note.count("[") == sum(row.note.count(f"[{word}]") for word in noted)


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ("extra trailing slash", ("guess",)),
        ("missing trailing slash", ("wire",)),
        ("too few images answer 422", ("guess",)),
        ("fewer than 5 images", ("seed",)),
        ("images_left_out", ("guess",)),
        ("prices of sam3", ("guess",)),
        ("a create answers 201", ("guess",)),
        ("expires_at", ("guess",)),
        ("download of one that is not completed", ("guess",)),
        ("deleted_images", ("guess",)),
    ],
)
def test_what_nobody_has_seen_is_called_a_guess(words: str, known: tuple[Provenance, ...]) -> None:
    """What no source shows is not dressed up as known, and what one shows is told apart from it."""
    (row,) = [row for row in PICTOGRAPH_BEHAVIOURS if words in row.text]
    assert row.known == known
