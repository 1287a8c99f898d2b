"""Ground for every test: own Prefect home, loopback only, one Prefect server for those that ask."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the first prefect import: a test must never write into the user's own database or account.
_HOME = tempfile.TemporaryDirectory(prefix="train-pipeline-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _HOME.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ["DO_NOT_TRACK"] = "1"
for _name in [
    name for name in os.environ if name.startswith(("PICTOGRAPH_", "TRAIN_PIPELINE_")) or name == "PREFECT_API_URL"
]:
    if _name != "PICTOGRAPH_1_0_PYTHON":
        del os.environ[_name]

os.environ["TRAIN_PIPELINE_JOURNAL"] = str(Path(_HOME.name) / "journal.db")

# Before the first process is started: importing the guard puts it into this process, the path into all others.
LOOPBACK = str(Path(__file__).parent / "loopback")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [LOOPBACK, os.environ.get("PYTHONPATH")]))

from tests.loopback import sitecustomize as guard  # noqa: E402
from tests.servers import hand_over, running_prefect  # noqa: E402

# In the background of a script this process ignores Ctrl-C, and so would every process it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Show what was refused at the end: the code that asked may have swallowed the error."""
    yield
    assert guard.refused == []


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server in its own process; yields its API address."""
    with running_prefect(tmp_path_factory.mktemp("prefect-server")) as (api, _):
        yield api
        if "prefect" in sys.modules:
            hand_over()


@pytest.fixture
def prefect_api(prefect_server: str) -> Iterator[str]:
    """The server's address as this process's setting, without the heartbeat that ends every flow a second late."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield prefect_server
