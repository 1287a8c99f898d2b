"""PhotoGPT's facts as data. Source: https://docs.photogptai.com and the seed page, checked 2026-11-20."""

from __future__ import annotations

from pipeline.models import CreationPolicy, GuaranteeLevel, ModelTask, PollPolicy, ProviderProfile

PROVIDER = "photogpt"

# The vendor's figures: a look every five minutes, a training takes 20 to 25, nobody waits longer than 35.
_RUN_POLL = PollPolicy(interval_s=300.0, floor_s=60.0, ceiling_s=300.0, deadline_s=2100.0, fixed=True)
_SANDBOX_RUN_POLL = PollPolicy(interval_s=0.5, floor_s=0.2, ceiling_s=2.0, deadline_s=2100.0)
# A trigger may take ten minutes to show in the model's status. It is sent twice at most, whatever happens.
_CREATION = CreationPolicy(sendings=2, lookups=20, lookup_wait_s=30.0, lookup_ceiling_s=30.0)
_SANDBOX_CREATION = CreationPolicy(sendings=2, lookups=3, lookup_wait_s=0.2, lookup_ceiling_s=0.2)


def photogpt_profile(*, sandbox: bool) -> ProviderProfile:
    """Return the profile."""
    return ProviderProfile(
        name=PROVIDER,
        title="PhotoGPT (sandbox)" if sandbox else "PhotoGPT",
        poll=_SANDBOX_RUN_POLL if sandbox else _RUN_POLL,
        min_images=12,
        # Not documented; the longest name the vendor's examples leave room for.
        run_name_max=60,
        pipelines={"portrait": ModelTask.IMAGE_GENERATION},
        gpus=(),
        guarantee=GuaranteeLevel.EXACTLY_ONCE,
        run_page="",
        data="pictures",
        weights="none",
        hosted_inference="billed",
        cancels="no",
        prices="configured",
        shows_progress=False,
        creation=_SANDBOX_CREATION if sandbox else _CREATION,
        sandbox=sandbox,
    )
