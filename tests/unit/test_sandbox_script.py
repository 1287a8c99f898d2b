"""Scripts, prices, paths and rules of the sandbox: arithmetic without a server."""

import onnx
import pytest
from pydantic import ValidationError

from sandbox.addressing import name_of, segments
from sandbox.faults import FaultRule
from sandbox.gate import redacted
from sandbox.prices import epochs_of, find_price, minute_price, planned_minutes, used_minutes
from sandbox.script import epoch_of, first_running, locate, noisy_eta_s
from sandbox.settings import PIPELINES, AccountSettings, Script
from sandbox.tinymodel import ARCHITECTURES, tiny_model

STEPS = [
    {"status": "queued", "for_s": 2, "for_looks": 1},
    {"status": "running", "for_s": 10, "for_looks": 4},
    {"status": "completed"},
]


def script(**changes: object) -> Script:
    """Return the script of these tests, changed."""
    return Script.model_validate({"steps": STEPS, **changes})


@pytest.mark.parametrize(
    ("elapsed_s", "status", "epoch"),
    [
        (0, "queued", 0),
        (1.99, "queued", 0),
        (2, "running", 0),
        (7, "running", 25),
        (11.99, "running", 49),
        (12, "completed", 0),
    ],
)
def test_time_moves_a_script_through_its_steps(elapsed_s: float, status: str, epoch: int) -> None:
    """Each step lasts its seconds, and epochs follow the share of the running step that has passed."""
    position = locate(script(), elapsed_s)
    assert position.step.status == status
    assert epoch_of(position, 50)[0] == epoch


def test_looks_move_a_script_by_their_own_measure() -> None:
    """In the mode "looks" a step lasts so many looks, whatever its seconds are."""
    shown = [locate(script(mode="looks"), look).step.status for look in range(7)]
    assert shown == ["queued", "running", "running", "running", "running", "completed", "completed"]


def test_a_last_step_that_is_not_terminal_lasts_for_ever() -> None:
    """A script may hang: it stays in its last step at its full share."""
    hung = Script.model_validate({"steps": STEPS[:2]})
    position = locate(hung, 1e9)
    assert (position.step.status, position.fraction, position.left) == ("running", 1.0, None)
    assert noisy_eta_s(hung, position, 3, "seed") is None


def test_estimates_are_off_by_no_more_than_the_noise_and_the_same_again() -> None:
    """Noise is deterministic for a run and an epoch, and bounded by the script's figure."""
    noisy = script(eta_noise=0.3)
    etas = [noisy_eta_s(noisy, locate(noisy, 2), epoch, "run") for epoch in range(50)]
    assert etas == [noisy_eta_s(noisy, locate(noisy, 2), epoch, "run") for epoch in range(50)]
    assert all(eta is not None and 7 <= eta <= 13 for eta in etas)
    assert len(set(etas)) > 3


def test_the_start_of_training_is_where_the_first_running_step_begins() -> None:
    """A script without a running step never starts to train."""
    assert first_running(script()) == 2
    assert first_running(Script.model_validate({"steps": [{"status": "queued", "for_s": 1}]})) is None


@pytest.mark.parametrize("bad", [{"steps": []}, {"speed": 0}, {"mode": "magic"}, {"surprise": 1}])
def test_scripts_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    """Empty scripts, standing clocks, unknown modes and unknown fields are errors."""
    with pytest.raises(ValidationError):
        Script.model_validate(bad)


def test_prices_follow_the_billing_model_and_can_be_chosen() -> None:
    """Each unit has its table, an account may have prices of its own, both spellings mean the same operation."""
    credits, dollars = AccountSettings(billing="credits"), AccountSettings(billing="micro_usd")
    assert [minute_price(credits, gpu) for gpu in ("a10g", "a100", "h100")] == [10, 60, 120]
    assert minute_price(dollars, "a10g") == 22_917
    own = AccountSettings(prices_per_minute={"a10g": 7})
    assert (minute_price(own, "a10g"), minute_price(own, "h100")) == (7, 82_292)
    for slug in ("training_a10g", "training_a10g_per_minute"):
        price = find_price(own, slug)
        assert price is not None
        assert price.total(6) == 42
    assert find_price(own, "training_tpu") is None
    assert find_price(AccountSettings(estimate_slugs="plain"), "training_a10g_per_minute") is None


def test_minutes_are_whole_and_begun_ones_count() -> None:
    """Planned and used minutes are rounded up and never zero; faster tiers need fewer."""
    settings = AccountSettings(seconds_per_epoch=30)
    assert planned_minutes(settings, 50, "a10g") == 25
    assert planned_minutes(settings, 50, "a100") == 10
    assert planned_minutes(settings, 1, "h100") == 1
    assert [used_minutes(seconds) for seconds in (0.1, 60, 60.1)] == [1, 1, 2]


@pytest.mark.parametrize("epochs", [0, -1, 10_001, 2.5, "ten", True, None])
def test_epochs_that_are_no_whole_number_in_range_are_refused(epochs: object) -> None:
    """The message names the value."""
    with pytest.raises(ValueError, match=r"config\.epochs is"):
        epochs_of({"epochs": epochs}, 50)


def test_an_encoded_slash_stays_inside_its_segment() -> None:
    """A name with a slash is one segment for routing, other escapes are decoded."""
    _, training, name, cancel = segments(b"/training/run%201%2Fx/cancel").split("/")
    assert (training, name_of(name), cancel) == ("training", "run 1/x", "cancel")


def test_signatures_are_not_logged() -> None:
    """The request log keeps the query of a signed link, without its signature."""
    logged = redacted("X-Sandbox-Expires=12&X-Sandbox-Signature=secret&a=b")
    assert logged == "X-Sandbox-Expires=12&X-Sandbox-Signature=…&a=b"


def test_fault_rules_match_method_and_path() -> None:
    """The path is a regular expression that is searched; a broken one is refused."""
    rule = FaultRule(action="status", method="post", path="/training/$")
    assert rule.matches("POST", "/api/v1/developer/training/")
    assert not rule.matches("GET", "/api/v1/developer/training/")
    assert not rule.matches("POST", "/api/v1/developer/training/x/cancel")
    with pytest.raises(ValidationError, match="no regular expression"):
        FaultRule(action="status", path="(")


@pytest.mark.parametrize("pipeline", sorted(ARCHITECTURES))
@pytest.mark.parametrize("count", [1, 3])
def test_tiny_models_are_valid_and_differ_by_seed(pipeline: str, count: int) -> None:
    """Every pipeline has a graph that the ONNX checker accepts; a seed always gives the same bytes."""
    classes = [f"class{index}" for index in range(count)]
    content = tiny_model(pipeline, classes, seed=1)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert content == tiny_model(pipeline, classes, seed=1)
    assert content != tiny_model(pipeline, classes, seed=2)


def test_every_pipeline_a_dialect_accepts_has_a_tiny_model() -> None:
    """The scripted engine can finish a run of any pipeline that can be created."""
    assert {name for names in PIPELINES.values() for name in names} <= set(ARCHITECTURES)


def test_no_dialect_accepts_a_pipeline_its_clients_cannot_read() -> None:
    """The old client refuses rfdetr_keypoint in an answer, today's refuses detectron2."""
    assert "rfdetr_keypoint" not in PIPELINES["v1"] + PIPELINES["both"]
    assert "detectron2" not in PIPELINES["v2"] + PIPELINES["both"]
