"""Replicate's webhooks as a receiver on this machine sees them, and trainings that a child process runs."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret

from sandbox.datasets import LabelledImage
from sandbox.exportzip import write_export
from sandbox.replicate.webhooks import signature
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from tests.contract.replicate_accounts import Opened, opened
from tests.waiting import eventually

Open = Callable[..., Opened]
SHORT = {"steps": [{"status": "running", "for_s": 0.4}, {"status": "completed"}]}


@dataclass
class Receiver:
    """Takes webhooks, answering with the given statuses first and 200 from then on."""

    url: str
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def states(self) -> list[str]:
        """Return the status in each body, in order."""
        return [json.loads(body)["status"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(made.statuses.pop(0) if made.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook?run=7")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def open_account(server: SandboxServer) -> Iterator[Open]:
    """Give a function that opens an account whose trainings take half a second."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(opened(server, **{"script": SHORT, **settings}))


def _ended(receiver: Receiver, count: int = 1) -> None:
    over = ("succeeded", "failed", "canceled")
    eventually(lambda: sum(state in over for state in receiver.states()) >= count, "the end", within_s=20)


def test_the_published_signature() -> None:
    """Our signature of the vendor's own example is the vendor's."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_event_is_told_and_signed(open_account: Open, receiver: Receiver) -> None:
    """Nobody polls, and start, logs, output and completed come, each the bare training with a signature that holds."""
    mine = open_account()
    events = ["start", "output", "logs", "completed"]
    started = mine.train(webhook=receiver.url, webhook_events_filter=events)
    _ended(receiver)
    assert receiver.states()[0] == "processing"
    assert set(receiver.states()[:-1]) == {"processing"}
    last = json.loads(receiver.got[-1][1])
    assert last == mine.training(started)
    assert [json.loads(body)["output"] is not None for _, body in receiver.got[-2:]] == [True, True]
    secret = WebhookSigningSecret(**mine.get("/v1/webhooks/default/secret"))
    for headers, body in receiver.got:
        Webhooks.validate(headers=headers, body=body.decode(), secret=secret, tolerance=60)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) >= 4


def test_only_what_was_asked_for(open_account: Open, receiver: Receiver) -> None:
    """With a filter the rest is not told, and a canceled training completes too."""
    mine = open_account(script={"steps": [{"status": "running", "for_s": 60}, {"status": "completed"}]})
    started = mine.train(webhook=receiver.url, webhook_events_filter=["completed"])
    mine.http.post(f"/v1/trainings/{started['id']}/cancel")
    _ended(receiver)
    assert receiver.states() == ["canceled"]


def test_the_end_is_told_until_it_is_taken(open_account: Open, receiver: Receiver) -> None:
    """The terminal one is delivered again under its id after an error; the one before it is lost."""
    mine = open_account(replicate={"webhook_retry_s": 0.05})
    receiver.statuses = [500, 503, 404, 200]
    mine.train(webhook=receiver.url, webhook_events_filter=["start", "completed"])
    _ended(receiver, 3)
    assert receiver.states() == ["processing", "succeeded", "succeeded", "succeeded"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got[1:]}) == 1


@pytest.mark.parametrize(
    ("quirk", "states"),
    [
        ({"webhook_copies": 2}, ["processing", "processing", "succeeded", "succeeded"]),
        ({"webhook_reorder": True}, ["succeeded", "processing"]),
        ({"webhook_drop": ["start"]}, ["succeeded"]),
        ({"webhook_delay_s": 0.3}, ["processing", "succeeded"]),
    ],
    ids=str,
)
def test_what_can_go_wrong_on_the_way(
    open_account: Open, receiver: Receiver, quirk: dict[str, Any], states: list[str]
) -> None:
    """By setting webhooks come twice, late, in the wrong order, or not at all."""
    mine = open_account(replicate=quirk)
    mine.train(webhook=receiver.url, webhook_events_filter=["start", "completed"])
    eventually(lambda: len(receiver.got) >= len(states), "all of them", within_s=20)
    assert receiver.states() == states


def test_a_prediction_has_a_webhook_too(open_account: Open, receiver: Receiver) -> None:
    """It runs without anybody asking for it, and its end is told."""
    mine = open_account()
    started = mine.train()
    done = eventually(lambda: (seen := mine.training(started))["output"] and seen, "the version")
    body = {"version": done["output"]["version"], "input": {"image": "data:,x"}, "webhook": receiver.url}
    assert mine.http.post("/v1/predictions", json=body).status_code == 201
    _ended(receiver)
    assert json.loads(receiver.got[-1][1])["urls"]["get"].count("/v1/predictions/") == 1


def test_other_machines_are_told_nothing(open_account: Open, receiver: Receiver) -> None:
    """The sandbox calls this machine alone: elsewhere a webhook is accepted, and never sent."""
    mine = open_account()
    mine.train(webhook="http://hooks.invalid/x")
    mine.train(webhook=receiver.url)
    _ended(receiver)
    assert mine.account.bill()["started_runs"] == 2


def test_the_trainer_itself(open_account: Open, tmp_path: Path) -> None:
    """A real training of pictures in a child process: its logs, its weights, its version, and its seconds billed."""
    mine, pictures = open_account(engine="real"), road_signs(12, size=64, single=True)
    started = mine.train(_order(mine, tmp_path, pictures, epochs=1))
    over = ("succeeded", "failed")
    done = eventually(lambda: (seen := mine.training(started))["status"] in over and seen, "the end", within_s=120)
    assert (done["status"], done["error"]) == ("succeeded", None), done["logs"]
    assert "100%|" in done["logs"]
    weights = httpx.get(done["output"]["weights"], trust_env=False).content
    with tarfile.open(fileobj=io.BytesIO(weights)) as archive:
        assert sorted(archive.getnames()) == ["config.json", "model.onnx"]
    (line,) = mine.account.bill()["runs"]
    assert line["charged"] == round(done["metrics"]["predict_time"] * 225) > 0
    image = mine.http.post("/v1/files", files={"content": ("p.png", pictures[0].content, "image/png")}).json()
    body = {"version": done["output"]["version"], "input": {"image": image["urls"]["get"]}}
    answer = mine.http.post("/v1/predictions", json=body, headers={"prefer": "wait"}).json()
    assert sorted(row["label"] for row in answer["output"]["classes"]) == ["parking", "stop", "warning"]


def test_a_canceled_training_ends_its_child(open_account: Open, server: SandboxServer, tmp_path: Path) -> None:
    """Soon after the cancel nothing trains any more, though there was much to do, and the time is billed."""
    mine = open_account(engine="real")
    started = mine.train(_order(mine, tmp_path, road_signs(12, size=64, single=True), epochs=5_000))
    eventually(lambda: "|" in (mine.training(started)["logs"] or ""), "the first bar", within_s=20)
    assert mine.http.post(f"/v1/trainings/{started['id']}/cancel").json()["status"] == "canceled"
    eventually(lambda: not list((server.home / "jobs").glob("document-*")), "the end of the child", within_s=3)
    assert mine.account.bill()["paid_runs"] == 1


def test_a_trainer_that_was_killed_is_paid_for(open_account: Open, server: SandboxServer, tmp_path: Path) -> None:
    """It ends its training as failed, with the seconds that it ran on the bill."""
    mine = open_account(engine="real")
    started = mine.train(_order(mine, tmp_path, road_signs(12, size=64, single=True), epochs=5_000))
    eventually(lambda: "|" in (mine.training(started)["logs"] or ""), "the first bar", within_s=20)
    os.kill(_trainer(server.home), signal.SIGKILL)
    failed = eventually(lambda: (seen := mine.training(started))["status"] == "failed" and seen, "the failure")
    assert "ended with code -9" in failed["error"]
    (line,) = mine.account.bill()["runs"]
    assert line["charged"] == round(failed["metrics"]["predict_time"] * 225) > 0


def _trainer(home: Path) -> int:
    """Return the process that trains in a home; its guard has the same words and more."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if words[1:3] == ["-m", "trainers.replicate.local"] and words[3].startswith(str(home)):
                return int(path.parent.name)
    raise LookupError("nothing trains")


def _order(mine: Opened, folder: Path, pictures: list[LabelledImage], *, epochs: int) -> dict[str, Any]:
    """Upload an export of pictures and return the input of a quick training on it."""
    path = folder / "export.zip"
    write_export(path, dataset="d", export="e", images=pictures, include_images=True)
    quick = {"epochs": epochs, "image_size": 32, "batch_size": 4, "learning_rate": 0.001, "seed": 0}
    return {"train_data": mine.upload(path.read_bytes())["urls"]["get"], **quick}


def test_data_that_cannot_be_read_fails_the_training(open_account: Open) -> None:
    """What the trainer has against it is the training's error."""
    mine = open_account(engine="real")
    started = mine.train({"train_data": mine.upload(b"PK no zip")["urls"]["get"]})
    failed = eventually(lambda: (seen := mine.training(started))["status"] == "failed" and seen, "the failure")
    assert failed["error"]
    assert failed["output"] is None


def test_unreachable_data_fails_a_real_training(open_account: Open) -> None:
    """The sandbox fetches from this machine alone, and says so."""
    mine = open_account(engine="real")
    started = mine.train({"train_data": "https://data.invalid/a.zip"})
    failed = eventually(lambda: (seen := mine.training(started))["status"] == "failed" and seen, "the failure")
    assert "data.invalid" in failed["error"]
    assert mine.account.bill()["paid_runs"] == 0
