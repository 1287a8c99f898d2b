"""Bluesight's facts as data. Source: the vendor's guides and its published server, checked 2026-11-20."""

from __future__ import annotations

from pipeline.models import CreationPolicy, GuaranteeLevel, ModelTask, PollPolicy, ProviderProfile
from providers.bluesight.wire import PROVIDER

# The server answers nothing while it trains, so that not seeing a run for long says nothing about it: of all limits
# only the deadline ends a watch. This is the longest deadline that a request can name.
_BLIND_S = 604_800.0
_RUN_POLL = PollPolicy(interval_s=10.0, floor_s=3.0, ceiling_s=30.0, deadline_s=7200.0, max_blind_s=_BLIND_S)
# The sandbox is this machine: looking costs nothing, and its runs last seconds.
_SANDBOX_RUN_POLL = PollPolicy(interval_s=0.5, floor_s=0.2, ceiling_s=5.0, deadline_s=7200.0, max_blind_s=_BLIND_S)

PIPELINES: dict[str, ModelTask] = {
    "classification": ModelTask.CLASSIFICATION,
    "segmentation": ModelTask.SEMANTIC_SEGMENTATION,
}


def bluesight_profile(*, sandbox: bool) -> ProviderProfile:
    """Return the profile."""
    return ProviderProfile(
        name=PROVIDER,
        title="Bluesight (sandbox)" if sandbox else "Bluesight",
        poll=_SANDBOX_RUN_POLL if sandbox else _RUN_POLL,
        min_images=1,
        # No name is sent: this only bounds names of files and folders.
        run_name_max=100,
        pipelines=PIPELINES,
        gpus=(),
        # A job has no name and no key, and jobs cannot be listed: what a create without an answer made is never found.
        guarantee=GuaranteeLevel.AT_MOST_ONCE,
        run_page="",
        data="tiles",
        weights="none",
        hosted_inference="free",
        cancels="advice",
        prices="none",
        bills=False,
        has_key=False,
        finds_runs=False,
        lists_runs=False,
        shows_progress=False,
        creation=CreationPolicy(sendings=2),
        sandbox=sandbox,
    )
