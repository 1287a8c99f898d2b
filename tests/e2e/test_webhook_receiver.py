"""The webhook receiver as it is started: takes a signed delivery in, ends when told to, says nothing it should not."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx

from pipeline.journal.store import Journal
from tests.conftest import LOOPBACK
from tests.deliveries import OTHER_SECRET, SECRET, delivery
from tests.e2e.conftest import ROOT
from tests.servers import free_port, running
from tests.waiting import end


def test_the_command_receives(tmp_path: Path) -> None:
    """Told the secret and the journal by the environment: 204 and written down, 401 for a forged one."""
    port, log = free_port(), tmp_path / "said.log"
    command = [sys.executable, "-m", "deployments.webhooks", "--port", str(port)]
    settings = {
        "PYTHONPATH": os.pathsep.join([LOOPBACK, str(ROOT)]),
        "REPLICATE_WEBHOOK_SECRET": SECRET.get_secret_value(),
        "TRAIN_PIPELINE_JOURNAL": str(tmp_path / "journal.db"),
    }
    at_s = int(time.time())
    sent = [delivery(at_s=at_s), delivery("r2", "msg_2", at_s=at_s, secret=OTHER_SECRET)]
    url = f"http://127.0.0.1:{port}/webhooks/replicate?told=in-the-query"
    with running(command, f"http://127.0.0.1:{port}/healthz", log, **settings) as process:
        with httpx.Client(trust_env=False, timeout=30) as http:
            answers = [http.post(url, content=one.content, headers=one.headers).status_code for one in sent]
        end(process)
    assert answers == [204, 401]
    with closing(Journal(str(tmp_path / "journal.db"))) as journal:
        assert [journal.deliveries_about("replicate", run_id) for run_id in ("r1", "r2")] == [1, 0]
    said = log.read_text(encoding="utf-8")
    assert "replicate has called about training r1" in said
    secret = SECRET.get_secret_value()
    for word in (secret, secret.removeprefix("whsec_"), sent[0].headers["webhook-signature"], "in-the-query"):
        assert word not in said
    assert "Application shutdown complete" in said
