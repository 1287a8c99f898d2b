"""The table of GPU tiers and the memory a config needs: what fits where, what auto takes, what a second costs."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandbox.fitting import auto_choice, memory_failure, quoted_fits
from sandbox.gpus import TIERS
from sandbox.memory import APPETITES, cheapest_fitting, out_of_memory, predicted_mib
from sandbox.modelsizes import DEFAULT_SIZES, SIZES
from sandbox.prices import gpu_seconds, minute_prices
from sandbox.settings import AccountSettings
from sandbox.training.recipes import RECIPES

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"
LARGE = {"image_size": 1280, "batch_size": 32}
PRICES = minute_prices(AccountSettings())


def tiers_for(pipeline_type: str, **config: Any) -> list[str]:
    """Return the tiers a config fits."""
    need = predicted_mib(pipeline_type, config)
    return [tier.name for tier in TIERS.values() if out_of_memory(need, tier) is None]


@pytest.mark.parametrize("kind", sorted(APPETITES))
def test_the_defaults_fit_every_tier(kind: str) -> None:
    """A run nobody tuned never runs out of memory."""
    assert tiers_for(kind) == list(TIERS)


@pytest.mark.parametrize(
    ("batch", "expected"), [(32, ["h100"]), (16, ["a100", "h100"]), (8, list(TIERS)), (64, []), (1, list(TIERS))]
)
def test_halving_the_batch_brings_a_large_picture_down_the_tiers(batch: int, expected: list[str]) -> None:
    """At 1280 px a batch of 32 needs the largest tier, half of it the middle one, a quarter the smallest."""
    assert tiers_for("yolox", **{**LARGE, "batch_size": batch}) == expected


@pytest.mark.parametrize("kind", sorted(APPETITES))
def test_memory_grows_with_the_batch_the_picture_and_the_size(kind: str) -> None:
    """What an image takes is proportional to batch and pixels, on top of what the network takes by itself."""
    needs = [predicted_mib(kind, {"batch_size": batch}) for batch in (32, 16, 8, 4)]
    steps = [larger - smaller for larger, smaller in pairwise(needs)]
    assert steps[0] == pytest.approx(2 * steps[1], abs=3)
    assert steps[1] == pytest.approx(2 * steps[2], abs=3)
    assert needs[-1] - 2 * steps[-1] / 2 > 1200
    assert predicted_mib(kind, {"image_size": 640}) == predicted_mib(kind, {"image_height": 1280, "image_width": 320})
    assert predicted_mib(kind, {"image_size": [640, 320]}) < predicted_mib(kind, {"image_size": 640})
    words = list(SIZES[kind])
    same_side = [predicted_mib(kind, {"image_size": 640, "model_size": word}) for word in words]
    assert same_side[0] == min(same_side)
    assert same_side[-1] == max(same_side)


@pytest.mark.parametrize(
    "odd",
    [
        {"batch_size": "many"},
        {"batch_size": 0},
        {"batch_size": float("nan")},
        {"batch_size": True},
        {"image_size": None},
        {"image_size": [1, 2, 3]},
        {"image_height": -5},
        {"model_size": "gigantic"},
    ],
)
def test_what_is_no_figure_counts_as_the_default(odd: dict[str, Any]) -> None:
    """The estimate refuses nothing: whether a value can be used is for the trainer to say."""
    assert predicted_mib("yolox", odd) == predicted_mib("yolox", {})


def test_a_number_without_end_needs_more_than_there_is() -> None:
    """JSON has integers no float can hold."""
    assert tiers_for("yolox", batch_size=10**400) == []


def test_the_error_begins_as_the_vendor_s() -> None:
    """It names what is missing, what there is and what to change."""
    text = out_of_memory(67_123, TIERS["a10g"]) or ""
    assert text.startswith("CUDA out of memory. Tried to allocate 41.55 GiB (GPU 0; 24.00 GiB total capacity; ")
    assert "batch_size" in text
    assert "larger gpu_type than a10g" in text
    assert "gpu_type" not in (out_of_memory(10**6, TIERS["h100"]) or "gpu_type")
    assert out_of_memory(TIERS["a10g"].memory_mib, TIERS["a10g"]) is None
    assert "allocate 0.01 GiB" in (out_of_memory(TIERS["a10g"].memory_mib + 1, TIERS["a10g"]) or "")


def test_auto_is_the_cheapest_minute_that_fits() -> None:
    """By the account's own prices; the largest tier where none fits."""
    need = predicted_mib("yolox", {**LARGE, "batch_size": 16})
    assert cheapest_fitting(need, PRICES).name == "a100"
    assert cheapest_fitting(need, {**PRICES, "h100": 1}).name == "h100"
    assert cheapest_fitting(0, PRICES).name == "a10g"
    assert cheapest_fitting(10**6, PRICES).name == "h100"


def test_an_account_can_have_gpus_without_end() -> None:
    """Then everything fits everywhere, auto takes the cheapest, and no run fails for want of memory."""
    for memory, gpu, fits in (("emulated", "h100", False), ("unlimited", "a10g", True)):
        settings = AccountSettings.model_validate({"gpu_memory": memory})
        config = {"image_size": 1280, "batch_size": 8}
        assert auto_choice(settings, "rfdetr_detection", config)["gpu_type"] == gpu
        assert quoted_fits(settings, "rfdetr_detection", config, "a10g") is fits
        run = {"pipeline_type": "rfdetr_detection", "config": config, "gpu_type": "a10g"}
        assert (memory_failure(settings, run) is None) is fits


def test_the_vendor_s_quote_has_no_estimate_for_yolox() -> None:
    """Its fits is null although such runs can fail, and nothing of the estimate shows in the choice."""
    settings = AccountSettings()
    assert quoted_fits(settings, "yolox", LARGE, "a10g") is None
    choice = auto_choice(settings, "yolox", LARGE)
    assert (choice["gpu_type"], choice["predicted_mib"]) == ("h100", None)


def test_a_second_here_stands_for_less_on_a_faster_tier() -> None:
    """The account's factor counts, and the tier's speed."""
    settings = AccountSettings(gpu_seconds_per_second=60)
    assert [gpu_seconds(settings, gpu, 10) for gpu in TIERS] == [600, 240, 150]
    assert gpu_seconds(AccountSettings(), "a10g", 61) == 61


def test_the_estimate_and_the_trainers_have_the_same_default_batch() -> None:
    """Who halves the batch of a run that named none halves the one that was counted."""
    assert {kind: APPETITES[kind].batch_size for kind in RECIPES} == {k: r.batch_size for k, r in RECIPES.items()}


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_the_default_size_is_the_measure_of_the_others(kind: str) -> None:
    """Its factors are 1, so that the default network is the one whose figures are published."""
    size = SIZES[kind][DEFAULT_SIZES[kind]]
    assert (size.channel_factor, size.memory) == (1.0, 1.0)
    assert all(word == found.word for word, found in SIZES[kind].items())


def test_the_document_shows_tiers_and_estimates_as_they_are() -> None:
    """docs/sandbox.md holds every row of both tables."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for tier in TIERS.values():
        price = f"{tier.micro_usd_per_minute:,}".replace(",", " ")
        figures = f"{tier.memory_mib // 1024} GiB | {tier.relative_speed:g} | {tier.credits_per_minute} | {price}"
        assert f"| `{tier.name}` | {figures} |" in text
    for kind, appetite in APPETITES.items():
        word = DEFAULT_SIZES[kind]
        figures = f"{SIZES[kind][word].side} | {appetite.batch_size} | {appetite.image_mib}"
        words = " ".join(f"`{known}`" for known in SIZES[kind])
        need = predicted_mib(kind, {}) / 1024
        assert f"| `{kind}` | {words} | `{word}` | {figures} | {need:.1f} |" in text
    assert re.search(r"need = 1200 MiB \+ 16 bytes x weights", text)
