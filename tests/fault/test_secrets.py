"""P10: a recognisable key and the signatures of signed addresses appear nowhere, whatever the run comes to."""

from __future__ import annotations

import io
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from flows.commandline import main
from pipeline.errors import PipelineError
from pipeline.provider_requests import PictographRequest
from providers.storage import SignedStorage
from tests.fault.workbench import DATASET, Workbench, status
from tests.servers import hand_over

CANARY = "pk_live_canary-0b5e55ed-c0ffee"
PAGE = 50
LOGGERS = (
    *("prefect", "prefect.flow_runs", "prefect.task_runs", "train_pipeline"),
    *("httpx", "httpcore", "flows", "tasks", "pipeline", "providers"),
)
TABLES = ("flow_runs", "task_runs", "artifacts", "logs", "events", "block_documents")


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The signatures of every signed address used, as they are used."""
    seen: set[str] = set()
    checked = SignedStorage._checked

    def note(storage: SignedStorage, url: str, subject: str) -> str:
        seen.update(parse_qs(urlsplit(url).query)["X-Sandbox-Signature"])
        return checked(storage, url, subject)

    monkeypatch.setattr(SignedStorage, "_checked", note)
    return seen


def rows_of(api: str, table: str) -> Iterator[str]:
    """Return everything Prefect shows of a table."""
    offset = 0
    while True:
        answer = httpx.post(f"{api}/{table}/filter", json={"limit": PAGE, "offset": offset}, timeout=30)
        assert answer.is_success, answer.text
        rows = answer.json()
        if isinstance(rows, dict):  # events come in pages with an address for the next one
            while rows["events"]:
                yield from map(json.dumps, rows["events"])
                if not rows.get("next_page"):
                    return
                rows = httpx.get(rows["next_page"], timeout=30).json()
            return
        yield from map(json.dumps, rows)
        if len(rows) < PAGE:
            return
        offset += PAGE


def bytes_below(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Return every file below these folders."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()


@pytest.fixture
def prefect_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Where Prefect keeps things: its server's database, and the results and settings of this process."""
    return (*tmp_path_factory.getbasetemp().glob("prefect-server*"), Path(os.environ["PREFECT_HOME"]))


@pytest.fixture
def talk() -> Iterator[io.StringIO]:
    """Everything any logger says, down to the HTTP library's own steps."""
    from prefect.logging.configuration import setup_logging

    setup_logging()  # now, or the first flow run would take our handlers off again; it does so at the root in any case
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield text
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


def search(secrets: set[str], texts: dict[str, str], files: dict[Path, bytes]) -> list[str]:
    """Return every place that holds one of these."""
    said = [f"{name}: {secret}" for name, text in texts.items() for secret in secrets if secret in text]
    return said + [f"{path}: {one}" for path, content in files.items() for one in secrets if one.encode() in content]


def pass_for_hosted(bench: Workbench) -> None:
    """Let the sandbox keep to itself who it is, as a hosted account would."""
    silent = {"X-Train-Pipeline-Sandbox": None}
    bench.account.fault("headers", method="GET", path="/credits/balance", headers=silent, times=None)


def run_three_ways(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run that is accepted, one that fails over a server that repeats the key, one on the command line."""
    from tasks.credentials import PictographCredentials

    accepted = bench.run(operation="canary-accepted")
    assert accepted.state == "Completed", accepted.message

    echo = json.dumps({"detail": f"the key {CANARY} is not valid"})
    bench.break_stage("look", [status(401, body=echo)], times=None)
    PictographCredentials(api_key=SecretStr(CANARY)).save("canary", overwrite=True)
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", bench.account.url)
    pass_for_hosted(bench)
    refused = bench.run(sandbox=False, credentials="canary", operation="canary-refused")
    assert (refused.state, bench.started()) == ("TimedOut", 2), refused.message
    assert "HTTP 401" in refused.message

    bench.account.clear_faults()
    pass_for_hosted(bench)
    bench.break_stage("bytes", [status(403)], times=None)
    monkeypatch.setenv("PICTOGRAPH_API_KEY", CANARY)
    assert main(["--dataset", DATASET, "--samples", "2", "--output-dir", str(bench.output_dir), "--verbose"]) == 1


def test_a_key_and_signatures_appear_nowhere(
    make_bench: Callable[..., Workbench],
    prefect_folders: tuple[Path, ...],
    signatures: set[str],
    monkeypatch: pytest.MonkeyPatch,
    talk: io.StringIO,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Logs at their most talkative, console, Prefect's API and its database file, results, reports: searched through.

    The search is shown to find what is there: the run's name, the library's own steps.
    """
    from prefect.settings import PREFECT_API_URL

    bench = make_bench(api_key=CANARY)
    run_three_ways(bench, monkeypatch)
    assert len(signatures) > 3
    hand_over()
    captured = capsys.readouterr()
    found = {
        "log": talk.getvalue(),
        "stdout": captured.out,
        "stderr": captured.err,
        **{table: "\n".join(rows_of(PREFECT_API_URL.value(), table)) for table in TABLES},
    }
    files = dict(bytes_below(*prefect_folders, bench.output_dir))
    name = "canary-accepted"
    assert [place for place in ("log", "flow_runs", "task_runs", "artifacts", "events") if not found[place]] == []
    assert any(place.startswith("flow_runs") for place in search({name}, found, files))
    assert any(".db" in place for place in search({name}, found, files))
    assert "httpcore" in found["log"]
    assert "signed address" in found["log"]
    assert any(path.name == "report.json" for path in files)
    assert search({CANARY, *signatures}, found, files) == []


ODD_KEYS = {"newline": f"{CANARY}\nX-Evil: 1", "space": f"{CANARY} 1", "accent": f"{CANARY}\u00e9", "good": CANARY}


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
def test_a_key_that_cannot_be_sent_is_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Whatever is wrong with a key: neither the error nor anything it came from quotes it."""
    from tasks.credentials import open_provider

    monkeypatch.setenv("PICTOGRAPH_API_KEY", key)
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "0")
    with pytest.raises(PipelineError) as caught, open_provider(PictographRequest(dataset=DATASET)) as provider:
        provider.check_account(None)  # type: ignore[arg-type]
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in shown
