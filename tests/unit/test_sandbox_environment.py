"""What a sandbox's process, and the children that train, are told about the one that starts them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from providers.settings import VENDORS, Settings
from sandbox import childjobs, launch
from sandbox.training import jobs

CANARY = "canary-7c1f"
TOLD_OF = {
    *(name.upper() for name in Settings.model_fields),
    *(variable for vendor in VENDORS.values() for variable in (vendor.key_variable, vendor.url_variable)),
}
"""Every variable that this program reads: keys, addresses with passwords in them, and what lies beside them."""


def served(folder: Path) -> None:
    """Start the server of a home."""
    with pytest.raises(launch.SandboxStartError):
        launch.ensure_running(folder)


def trained(folder: Path) -> None:
    """Start the child of a Pictograph run."""
    (folder / "job.json").write_text("{}")
    jobs.start(folder)


def trained_elsewhere(folder: Path) -> None:
    """Start the child of another vendor's training."""
    childjobs._spawn(folder, [])


@pytest.mark.parametrize("start", [served, trained, trained_elsewhere])
def test_a_process_of_the_sandbox_knows_nothing_of_hosted_accounts(
    start: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server outlives its starter: no key or address of anybody is handed down; everything else is."""
    given: list[dict[str, str]] = []

    class Child:
        returncode = 3

        def __init__(self, *_: Any, env: dict[str, str], **__: Any) -> None:
            given.append(env)

        def wait(self) -> int:
            return self.returncode

        poll = wait

    monkeypatch.setattr(subprocess, "Popen", Child)
    secret = {*TOLD_OF, *(name.lower() for name in TOLD_OF), "PICTOGRAPH_OTHER", "REPLICATE_API_KEY", "PREFECT_API_KEY"}
    for name in secret:
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    start(tmp_path)
    assert sorted(name for name, value in given[0].items() if value == CANARY) == []
    assert (given[0]["SOMETHING_ELSE"], len(TOLD_OF) > 20) == ("kept", True)
