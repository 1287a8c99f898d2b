"""The README's tables of providers, made from their profiles: ``python -m docs.provider_table`` prints them."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.models import GuaranteeLevel, ProviderProfile
from providers.bluesight.profile import bluesight_profile
from providers.photogpt.profile import photogpt_profile
from providers.pictograph.profile import pictograph_profile
from providers.replicate.profile import replicate_profile

YES, NO, NOT_OFFERED = "yes", "no", "not offered"
PROFILES: tuple[ProviderProfile, ...] = (
    pictograph_profile(sandbox=False),
    replicate_profile(sandbox=False),
    bluesight_profile(sandbox=False),
    photogpt_profile(sandbox=False),
)
"""The hosted providers."""

_ONCE = {GuaranteeLevel.EXACTLY_ONCE: "exactly once", GuaranteeLevel.AT_MOST_ONCE: "at most once"}
_DATA = {
    "export": "an export made there",
    "archive": "a ZIP archive here",
    "tiles": "an HDF5 file here",
    "pictures": "a folder of pictures here",
}
_PRICES = {
    "provider": YES,
    "rates": "minutes x a table of rates",
    "configured": "what you say it is",
    "none": NOT_OFFERED,
}
_WEIGHTS = {"onnx": "ONNX", "archive": "what the trainer returned", "none": NOT_OFFERED}
_HERE = {"onnx": YES, "archive": "where there is an ONNX in it", "none": NO}
_THERE = {"free": YES, "billed": "yes, billed", "none": NO}
_CANCELS = {"yes": YES, "advice": "as advice", "no": NOT_OFFERED}

FEATURES: tuple[tuple[str, Callable[[ProviderProfile], str]], ...] = (
    ("one request, one paid training", lambda profile: _ONCE[profile.guarantee]),
    ("training data", lambda profile: _DATA[profile.data]),
    ("checked before anything is spent", lambda _: YES),
    ("price before the training", lambda profile: _PRICES[profile.prices]),
    ("what it really cost", lambda profile: _offered(profile.bills)),
    ("progress while it trains", lambda profile: _offered(profile.shows_progress)),
    ("the trainer's log", lambda profile: _offered(profile.shows_logs)),
    ("early looks by webhook", lambda profile: _offered(profile.sends_webhooks)),
    ("cancel", lambda profile: _CANCELS[profile.cancels]),
    ("a run found after a lost answer", lambda profile: YES if profile.finds_runs else NOT_OFFERED),
    ("runs started elsewhere found by the sweep", lambda profile: _offered(profile.lists_runs)),
    ("weights to download", lambda profile: _WEIGHTS[profile.weights]),
    ("the model is tried here", lambda profile: _HERE[profile.weights]),
    ("the model is tried there", lambda profile: _THERE[profile.hosted_inference]),
    ("account with a key", lambda profile: YES if profile.has_key else NOT_OFFERED),
    ("rehearsal in the sandbox", lambda _: YES),
)
"""Each feature, and how a profile tells of it."""

HOW: dict[str, str] = {
    "pictograph": "the run's name and its idempotency key carry the operation; "
    "after any doubt the list of runs decides",
    "replicate": "the address of the training data carries the operation; "
    "after any doubt the list of trainings decides",
    "bluesight": "nothing can be looked up: a create whose answer was lost is not sent again and the run stops, unless "
    "`--on-unknown-create repeat` says otherwise",
    "photogpt": "one model for each attempt; what starts it is sent again once, and only after the model was seen "
    "not to have begun",
}
"""How each provider's guarantee is kept; keys are the profiles' names."""


def _offered(fact: bool) -> str:
    return YES if fact else NOT_OFFERED


def features() -> str:
    """Return the table of features as Markdown."""
    rows = [[name, *(tell(profile) for profile in PROFILES)] for name, tell in FEATURES]
    return _table(["", *(profile.title for profile in PROFILES)], rows)


def guarantees() -> str:
    """Return the table of what is promised about paying once, as Markdown."""
    rows = [[profile.title, _ONCE[profile.guarantee], HOW[profile.name]] for profile in PROFILES]
    return _table(["provider", "one request, one paid training", "how"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    print(features(), guarantees(), sep="\n\n")  # noqa: T201 - what it is for
