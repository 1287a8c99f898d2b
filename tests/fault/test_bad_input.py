"""Bad input: one clear line, the documented exit code, and nothing on the bill."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from flows.commandline import EXIT_CODES, main
from sandbox.client import SandboxAccount
from tests.fault.conftest import CLASSES, quiet_detector
from tests.fault.workbench import DATASET, GARBAGE, Workbench, leftovers, status

USAGE, REJECTED, OVER_BUDGET, FAILED = 2, 3, 4, 1


def spoken(captured: pytest.CaptureResult[str]) -> str:
    """Return everything a person saw, after checking that it is no traceback."""
    text = captured.out + captured.err
    assert "Traceback" not in text
    return text


@dataclass(frozen=True)
class Row:
    """A request that cannot be carried out, and what a person is told."""

    name: str
    code: int
    said: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    account: dict[str, Any] = field(default_factory=dict)
    exported: dict[str, Any] | None = None
    """What an export named ``old`` is ordered with, before."""


UNREAD = (
    Row("unknown-pipeline", USAGE, ("--pipeline", "'yolo9'", "yolox", "classification"), ("--pipeline", "yolo9")),
    Row("unknown-gpu", USAGE, ("--gpu", "'b200'", "a10g", "h100"), ("--gpu", "b200")),
    Row("epochs-text", USAGE, ("--epochs", "many", "int"), ("--epochs", "many")),
    Row("epochs-zero", USAGE, ("--epochs", "greater than or equal to 1"), ("--epochs", "0")),
    Row("epochs-half", USAGE, ("--epochs", "2.5"), ("--epochs", "2.5")),
    Row("budget-negative", USAGE, ("--budget-usd", "greater than 0"), ("--budget-usd", "-3")),
    Row("agreement-percent", USAGE, ("--min-agreement", "less than or equal to 1"), ("--min-agreement", "50")),
    Row("unknown-option", USAGE, ("--epoch", "--help"), ("--epoch", "3")),
    Row("unknown-status", USAGE, ("--status-filter", "'done'", "complete"), ("--status-filter", "done")),
)
REFUSED = (
    Row("unknown-dataset", USAGE, ("'sd'", "does not exist", "'ds'"), ("--dataset", "sd")),
    Row("unknown-export", USAGE, ("'odl'", "'old'"), ("--export", "odl"), exported={}),
    Row("export-failed", REJECTED, ("failed at the provider", "disk full"), account={"export_error": "disk full"}),
    Row("export-empty", REJECTED, ("holds no image", "'new'"), ("--status-filter", "new")),
    Row("export-without-images", REJECTED, ("without the image files",), ("--export", "old"), exported={}),
    Row("below-minimum", REJECTED, ("4 images", "at least 5"), account={"count": 4}),
    Row(
        "class-unknown",
        REJECTED,
        ("class_filter", "'giraffe'"),
        ("--class-filter", "stop", "--class-filter", "giraffe"),
        account={"count": 24},
    ),
    Row("class-leaves-nothing", REJECTED, ("class_filter", "giraffe"), ("--class-filter", "giraffe")),
    Row("filter-on-old-export", USAGE, ("class_filter", "export='old'"), ("--export", "old", "--class-filter", "stop")),
    Row("no-credit", OVER_BUDGET, ("balance is $0.10", "top up"), account={"balance": 100_000}),
    Row(
        "no-credits-v1",
        OVER_BUDGET,
        ("3 credits", "top up"),
        account={"dialect": "v1", "billing": "credits", "balance": 3},
    ),
    Row("over-usd", OVER_BUDGET, ("above budget_usd=$0.01", "raise budget_usd"), ("--budget-usd", "0.01")),
    Row(
        "over-credits",
        OVER_BUDGET,
        ("above budget_credits=1 credits", "raise budget_credits"),
        ("--budget-credits", "1", "--gpu-minutes", "30"),
        account={"dialect": "v1", "billing": "credits"},
    ),
    Row(
        "cap-without-minutes",
        USAGE,
        ("gpu_minutes",),
        ("--budget-credits", "100000"),
        account={"dialect": "v1", "billing": "credits"},
    ),
    Row("wrong-unit", USAGE, ("budget_credits", "set budget_usd instead"), ("--budget-credits", "100000")),
    Row(
        "wrong-unit-v1",
        USAGE,
        ("budget_usd", "set budget_credits instead"),
        ("--budget-usd", "100"),
        account={"dialect": "v1", "billing": "credits"},
    ),
    Row("two-budgets", USAGE, ("both set",), ("--budget-usd", "1", "--budget-credits", "1")),
    Row("role-viewer", USAGE, ("HTTP 403", "role"), account={"role": "viewer"}),
)


@pytest.mark.parametrize("row", UNREAD, ids=lambda row: row.name)
def test_options_that_cannot_be_read(
    open_account: Callable[..., SandboxAccount], capsys: pytest.CaptureFixture[str], row: Row
) -> None:
    """Refused before anything is asked of anybody: option, value and what is allowed, on one line."""
    account = open_account()
    assert main(["--sandbox", "--dataset", DATASET, *row.arguments]) == row.code
    text = spoken(capsys.readouterr())
    assert [part for part in row.said if part not in text] == []
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert account.requests() == []


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_requests_that_cannot_be_carried_out(
    make_bench: Callable[..., Workbench], capsys: pytest.CaptureFixture[str], row: Row
) -> None:
    """Refused by what the provider knows: one verdict, the reason and the way out, and an empty bill."""
    bench = make_bench(**row.account)
    if row.exported is not None:
        with bench.account.http() as http:
            order = {"dataset_name": DATASET, "name": "old", "include_images": False, **row.exported}
            assert http.post("/exports/", json=order).is_success
    assert bench.command(*row.arguments) == row.code
    captured = capsys.readouterr()
    text = spoken(captured)
    verdicts = [line for line in captured.out.splitlines() if line.startswith("Verdict")]
    assert len(verdicts) == 1
    assert [part for part in row.said if part not in verdicts[0]] == [], text
    bill = bench.account.bill()
    assert (bill["started_runs"], bill["charged"]) == (0, 0)
    assert bench.sent("create") == []
    assert leftovers(bench.output_dir) == []


def zipped() -> bytes:
    """Return a good archive of something else."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("weights.txt", "1 2 3")
    return content.getvalue()


MODELS: dict[str, tuple[bytes, int, str]] = {
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>", REJECTED, "HTML"),
    "zip": (zipped(), REJECTED, "ZIP"),
    "truncated": (quiet_detector()[:-40_000], REJECTED, "candidate.onnx"),
    "empty": (b"", FAILED, "empty"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_that_is_no_model(bench: Workbench, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """What the provider delivers is no ONNX: refused by name, the exit code says so, and one run is on the bill."""
    content, code, said = MODELS[name]
    bench.account.upload_model(content, classes=",".join(CLASSES), architecture="yolox-s", side=64)
    assert bench.command() == code
    assert said in spoken(capsys.readouterr())
    assert bench.started() == 1


def test_a_model_of_other_classes(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    """A working model that was trained on other classes is rejected, and the classes are named."""
    bench.account.upload_model(quiet_detector(), classes="cat,dog,stop", architecture="yolox-s", side=64)
    assert bench.command() == REJECTED
    text = spoken(capsys.readouterr())
    assert "missing parking, warning" in text
    assert "extra cat, dog" in text
    assert bench.started() == 1


def test_a_model_that_does_not_reach_the_agreement(bench: Workbench) -> None:
    """A model that finds none of the labels is rejected when any are asked for."""
    ended = bench.run(min_agreement=0.5)
    assert (ended.state, EXIT_CODES[ended.report.outcome], bench.started()) == ("Rejected", REJECTED, 1)
    assert "(0.0%), less than the 50.0% asked for" in ended.message


def test_an_archive_that_is_none(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    """The storage answers the export with a page of HTML: rejected before anything is paid."""
    bench.break_stage("export-bytes", [GARBAGE], times=None)
    assert bench.command() == REJECTED
    assert "is not a readable ZIP archive" in spoken(capsys.readouterr())
    assert bench.started() == 0


def test_an_output_folder_that_cannot_be_written(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    """A file stands where the folder should be: refused after reading calls only, before anything is made."""
    bench.output_dir.write_text("in the way")
    assert bench.command() == USAGE
    assert "cannot be written" in spoken(capsys.readouterr())
    assert {request["method"] for request in bench.account.requests()} == {"GET"}
    assert bench.output_dir.read_text() == "in the way"


@pytest.mark.parametrize("key", ["pk_live_not_a_key_of_anybody", "two words"], ids=["unknown", "unsendable"])
def test_a_key_that_is_wrong(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """Refused by the provider or not even sent: told to look at the key, which is not repeated."""
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", key)
    assert bench.command() == USAGE
    text = spoken(capsys.readouterr())
    assert "API key" in text
    assert key not in text
    assert bench.started() == 0


def test_a_hosted_provider_without_a_key_never_falls_back(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No key: the variable is named, and the sandbox, although it is there, is not asked in the provider's place."""
    monkeypatch.delenv("PICTOGRAPH_API_KEY", raising=False)
    assert main(["--dataset", DATASET, "--output-dir", str(bench.output_dir)]) == USAGE
    text = spoken(capsys.readouterr())
    assert "PICTOGRAPH_API_KEY" in text
    assert "--sandbox" in text
    assert bench.account.requests() == []


def test_a_provider_that_is_not_there(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at the address: failed, with the call that got no answer."""
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", "http://127.0.0.1:9")
    assert bench.command() == FAILED
    assert "no connection could be made" in spoken(capsys.readouterr())
    assert bench.started() == 0


def test_exit_codes_of_the_other_ends(make_bench: Callable[..., Workbench], capsys: pytest.CaptureFixture[str]) -> None:
    """Accepted and submitted are 0, timed out is 5; the run of the last is alive."""
    bench = make_bench()
    bench.break_stage("look", [status(503)], skip=1)
    assert bench.command() == 0
    assert bench.command("--wait", "none") == 0
    slow = {"mode": "looks", "steps": [{"status": "running", "epochs": 5}]}
    bench.account.configure(script=slow)
    assert bench.command("--deadline-s", "15", "--poll-interval-s", "10", "--on-open-run", "new") == 5
    spoken(capsys.readouterr())
    assert bench.active() == 2
