"""Replicate's facts as data. Source: https://replicate.com/docs and OpenAPI 1.0.0-a1, checked 2026-11-20."""

from __future__ import annotations

from pipeline.models import PIPELINE_TASKS, CreationPolicy, GuaranteeLevel, PollPolicy, ProviderProfile
from providers.replicate.wire import PROVIDER

_DAY_S = 86_400.0
# Lists lag behind creates by an unknown time, and a run that is overlooked is paid for twice: worth a minute.
_CREATION = CreationPolicy(lookups=5, lookup_wait_s=4.0, lookup_ceiling_s=30.0)
# A worker may take half an hour to boot, and no limit on a training's length is published.
_RUN_POLL = PollPolicy(interval_s=10.0, floor_s=2.0, ceiling_s=120.0, deadline_s=_DAY_S, not_found_grace_s=300.0)
# The sandbox is this machine: looking costs nothing, and its runs last seconds.
_SANDBOX_RUN_POLL = PollPolicy(interval_s=1.0, floor_s=0.5, ceiling_s=10.0, deadline_s=_DAY_S, not_found_grace_s=300.0)


def replicate_profile(*, sandbox: bool) -> ProviderProfile:
    """Return the profile; the address of a run's page for people is not documented."""
    return ProviderProfile(
        name=PROVIDER,
        title="Replicate (sandbox)" if sandbox else "Replicate",
        poll=_SANDBOX_RUN_POLL if sandbox else _RUN_POLL,
        min_images=5,  # a policy, the same as for every other provider
        run_name_max=60,  # runs have no names there: only folders and reports here carry ours
        pipelines=PIPELINE_TASKS,  # the trainer is somebody's own: the request says whose outputs it has
        gpus=(),  # hardware belongs to the trainer and is not chosen: the table of rates knows it
        guarantee=GuaranteeLevel.EXACTLY_ONCE,
        run_page="",
        data="archive",
        weights="archive",
        hosted_inference="billed",
        cancels="yes",
        prices="rates",
        bills=True,
        finds_runs=True,
        lists_runs=True,
        creation=CreationPolicy() if sandbox else _CREATION,
        shows_progress=True,
        shows_logs=True,
        sends_webhooks=True,
        sandbox=sandbox,
    )
