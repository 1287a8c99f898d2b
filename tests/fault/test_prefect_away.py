"""Prefect's API does not answer, or not as it should, before a flow has begun: one line, and nothing is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

import flows.commandline
import flows.sweep_command
from sandbox.client import SandboxAccount
from tests.servers import free_port

COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "train": (flows.commandline.main, ["--sandbox", "--dataset", "ds"]),
    "sweep": (flows.sweep_command.main, ["--sandbox"]),
}
"""Each command line that runs a flow in its own process."""
FAILED = 1


class _Unwilling(BaseHTTPRequestHandler):
    """Refuses below ``/refused``; answers with a page that is no JSON everywhere else."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(403 if self.path.startswith("/refused") else 200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def unwilling() -> Iterator[str]:
    """Return the host and port of a server that is none of Prefect's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unwilling) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def account(open_account: Callable[..., SandboxAccount]) -> SandboxAccount:
    """An account nothing may be asked of."""
    return open_account()


def tell(command: str, url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command says when Prefect's API is to be there; it has failed, and said so in one line."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    main, arguments = COMMANDS[command]
    with temporary_settings({PREFECT_API_URL: url}):
        assert main(arguments) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_answers(command: str, account: SandboxAccount, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback: the address without its password, what to do, exit code 1, and nothing asked of the provider."""
    asked, port = len(account.requests()), free_port()
    line = tell(command, f"http://me:secret@127.0.0.1:{port}/api", capsys)
    assert line.startswith(
        f"error: Prefect's API at http://127.0.0.1:{port}/api does not answer (ConnectError): start it, or unset "
        "PREFECT_API_URL"
    )
    assert len(account.requests()) == asked


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("path", "trouble"), [("refused", "answers 403: correct the address"), ("page", "cannot be used (JSONDecodeError:")]
)
def test_somebody_else_answers(path: str, trouble: str, unwilling: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is told by its number, a page that is no API's by what could not be read."""
    line = tell("train", f"http://{unwilling}/{path}", capsys)
    assert line.startswith(f"error: Prefect's API at http://{unwilling}/{path} {trouble}")
    assert "PREFECT_API_URL" in line


def test_the_temporary_server_does_not_start(
    account: SandboxAccount, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an address it is Prefect's own server that is named, with the first line of Prefect's reason."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Timed out while attempting to connect\nstdout: nothing")

    monkeypatch.setattr(SubprocessASGIServer, "start", refuse)
    asked = len(account.requests())
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert flows.commandline.main(["--sandbox", "--dataset", "ds"]) == FAILED
    assert capsys.readouterr().err.splitlines() == [
        "error: Prefect's temporary server cannot be used (RuntimeError: Timed out while attempting to connect)"
    ]
    assert len(account.requests()) == asked


def test_what_a_run_came_to_is_told_although_prefect_could_not_be_told(
    account: SandboxAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes away as the run ends: the exit code is the verdict's, or a scheduler would start a second training."""
    from prefect.flow_engine import FlowRunEngine

    tell_prefect = FlowRunEngine.set_state

    def lose_the_end(engine: Any, state: Any, *args: Any, **named: Any) -> Any:
        if state.is_final():
            raise httpx.ConnectError("gone")
        return tell_prefect(engine, state, *args, **named)

    monkeypatch.setattr(FlowRunEngine, "set_state", lose_the_end)
    arguments = ["--sandbox", "--dataset", "ds", "--output-dir", str(tmp_path), "--min-agreement", "0"]
    assert flows.commandline.main(arguments) == 0
    said = capsys.readouterr()
    assert "error: Prefect's" in said.err
    assert said.out.startswith("Verdict          ACCEPTED")
    assert account.bill()["paid_runs"] == 1
