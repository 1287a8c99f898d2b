"""Pictograph's facts as data. Source: seed documents "Training" and "Models", checked 2026-11-20."""

from __future__ import annotations

from pipeline.models import PIPELINE_TASKS, GuaranteeLevel, PollPolicy, ProviderProfile
from providers.pictograph.wire import PROVIDER

# Interval and deadline are the vendor's own; the floor and ceiling around them are ours: docs/decisions/0004.
_RUN_POLL = PollPolicy(interval_s=5.0, floor_s=2.0, ceiling_s=60.0, deadline_s=7200.0)
_EXPORT_POLL = PollPolicy(interval_s=2.0, floor_s=2.0, ceiling_s=10.0, deadline_s=300.0)
# The sandbox is this machine: looking costs nothing, and its runs last seconds.
_SANDBOX_RUN_POLL = PollPolicy(interval_s=1.0, floor_s=0.5, ceiling_s=10.0, deadline_s=7200.0)
_SANDBOX_EXPORT_POLL = PollPolicy(interval_s=0.05, floor_s=0.05, ceiling_s=2.0, deadline_s=300.0)


def pictograph_profile(*, sandbox: bool, run_page: str = "") -> ProviderProfile:
    """Return the profile; ``run_page`` is the address of a run's page, which the vendor does not document."""
    return ProviderProfile(
        name=PROVIDER,
        title="Pictograph (sandbox)" if sandbox else "Pictograph",
        poll=_SANDBOX_RUN_POLL if sandbox else _RUN_POLL,
        export_poll=_SANDBOX_EXPORT_POLL if sandbox else _EXPORT_POLL,
        # The vendor's older guide refuses fewer, its newer one splits them badly: a policy, not a limit of the API.
        min_images=5,
        run_name_max=100,
        pipelines=PIPELINE_TASKS,
        gpus=("a10g", "a100", "h100", "auto"),
        guarantee=GuaranteeLevel.EXACTLY_ONCE,
        run_page=run_page,
        sandbox=sandbox,
    )
