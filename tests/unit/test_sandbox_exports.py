"""Exports that cannot be built: each fails alone, with its reason."""

from pathlib import Path

import pytest

from sandbox import catalog
from sandbox.accounts import Account
from sandbox.catalog import add_dataset, advance_exports
from sandbox.core import Sandbox
from sandbox.datasets import LabelledImage
from sandbox.roadsigns import road_signs
from tests.unit.real_runs import order, the_export


def test_an_export_that_cannot_be_built_fails_alone(
    sandbox: Sandbox, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw fails the export it belongs to; the one behind it is built."""
    bad, good = (add_dataset(sandbox, account, name, road_signs(3, size=64)) for name in ("bad", "good"))
    order(sandbox, account, bad, "bad")
    order(sandbox, account, good, "good")
    read = catalog.read_export

    def poisoned(path: Path) -> list[LabelledImage]:
        if bad["id"] in path.name:
            raise AssertionError("nobody foresaw this")
        return read(path)

    monkeypatch.setattr(catalog, "read_export", poisoned)
    advance_exports(sandbox)
    failed, built = the_export(sandbox, "bad"), the_export(sandbox, "good")
    assert (failed["status"], "AssertionError: nobody foresaw this" in failed["error_message"]) == ("failed", True)
    assert (built["status"], built["image_count"]) == ("completed", 3)


def test_a_damaged_dataset_is_named_as_such(sandbox: Sandbox, account: Account) -> None:
    """Bytes flipped inside a compressed entry give a failed export that says it cannot be read."""
    path = sandbox.images_path(the_export(sandbox)["dataset_id"])
    content = bytearray(path.read_bytes())
    at = content.index(b"annotations/") + len("annotations/sign_0000.jpg.json")
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    order(sandbox, account, {"id": the_export(sandbox)["dataset_id"], "name": "ds"}, "again")
    advance_exports(sandbox)
    failed = the_export(sandbox, "again")
    assert failed["status"] == "failed"
    assert "cannot be read" in failed["error_message"]
