"""What a sandbox's process is told about the one that starts it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox import launch


def test_the_process_knows_nothing_of_the_hosted_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It outlives its starter, so the hosted key and address are not handed down; everything else is."""
    given: list[dict[str, str]] = []

    class Child:
        returncode = 3

        def __init__(self, *_: Any, env: dict[str, str], **__: Any) -> None:
            given.append(env)

        def wait(self) -> int:
            return self.returncode

        poll = wait

    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setenv("PICTOGRAPH_API_KEY", "pk_live_canary")
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", "https://hosted.example")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    with pytest.raises(launch.SandboxStartError):
        launch.ensure_running(tmp_path)
    assert [name for name in given[0] if name.startswith("PICTOGRAPH")] == []
    assert given[0]["SOMETHING_ELSE"] == "kept"
