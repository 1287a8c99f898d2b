"""Resolve a request into a plan: names, identity, limits. No clock, no network, no disk."""

from __future__ import annotations

import hashlib
import json
import re

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    ErrorContext,
    NotFoundError,
    PermissionDeniedError,
)
from pipeline.models import KEY_IN_NAME, Operation, PollPolicy, ProviderProfile, TrainPlan
from pipeline.provider import Provider
from pipeline.requests import TrainRequest, refused


def fingerprint_request(request: TrainRequest) -> str:
    """Return a SHA-256 over the fields that decide what is trained and where; limits and waiting are left out."""
    deciding = request.model_dump(mode="json", include=set(request.DECIDING))
    text = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def operation_key(provider: str, operation: Operation, *, sandbox: bool) -> str:
    """Return the identity of one attempt at an operation on the wire: 32 lowercase hex characters.

    Nothing else of the request is in it: a rerun with another option, or by a newer release, must find the paid run.
    """
    side = "sandbox" if sandbox else "hosted"
    return hashlib.sha256(f"{provider}:{side}:{operation.attempt}:{operation.id}".encode()).hexdigest()[:32]


def resolve_plan(request: TrainRequest, profile: ProviderProfile, operation: Operation) -> TrainPlan:
    """Check the request against the provider's facts and give everything its name.

    Args:
        request: What was asked.
        profile: The provider's facts.
        operation: What makes this training different from the next one with the same request; the same id gives
            the same names.

    Raises:
        ConfigurationError: A field cannot be carried out; the error names it.
    """
    _check(request, profile)
    key = operation_key(request.provider, operation, sandbox=profile.sandbox)
    stem = _slug(request.name or f"{request.data_name}-{request.kind}")
    room = profile.run_name_max - KEY_IN_NAME - 1
    run_name = f"{stem[:room].rstrip('-')}-{key[:KEY_IN_NAME]}"
    home = request.output_dir / "sandbox" if profile.sandbox else request.output_dir
    return TrainPlan(
        request=request,
        profile=profile,
        operation=operation,
        operation_key=key,
        fingerprint=fingerprint_request(request),
        run_name=run_name,
        export_name=request.export_asked or run_name,
        task=profile.pipelines[request.kind],
        poll=_poll(request, profile.poll),
        config_asked=request.config_asked,
        output_dir=home / run_name,
    )


def check_reachable(provider: Provider, plan: TrainPlan, *, paid: bool = False) -> str | None:
    """Prove with reading calls that key and data set are accepted.

    Of a training that is ``paid`` for, what would stop it from being begun now is returned instead: it goes on.

    Raises:
        ConfigurationError: The key is refused or the data set does not exist; the error names the field.
        ProviderError: The provider could not be asked.
    """
    try:
        _check_account(provider, plan)
    except ConfigurationError as error:
        if not paid or error.context.field == "credentials":
            raise
        return str(error)
    return None


def _check_account(provider: Provider, plan: TrainPlan) -> None:
    try:
        provider.check_account(plan)
    except NotFoundError as error:
        raise ConfigurationError(str(error), ErrorContext(operation="datasets.get", field="dataset")) from error
    except (AuthenticationError, PermissionDeniedError) as error:
        raise ConfigurationError(str(error), ErrorContext(operation="credits.balance", field="credentials")) from error


def _check(request: TrainRequest, profile: ProviderProfile) -> None:
    request.check()
    _one_of(request.KIND_FIELD, request.kind, tuple(profile.pipelines), profile.title)
    if profile.gpus and request.tier is not None:
        _one_of("gpu", request.tier, profile.gpus, profile.title)
    if profile.cancels == "no" and (request.on_deadline == "cancel" or request.cancel_on_interrupt):
        field = "on_deadline" if request.on_deadline == "cancel" else "cancel_on_interrupt"
        raise refused(field, f"{field} asks for a cancel, which {profile.title} does not offer; leave it out")
    if profile.prices == "none" and (request.budget_usd is not None or request.budget_credits is not None):
        field = "budget_usd" if request.budget_usd is not None else "budget_credits"
        raise refused(field, f"{field} cannot be kept: {profile.title} publishes no price; leave it out")


def _one_of(field: str, value: str, offered: tuple[str, ...], title: str) -> None:
    if value not in offered:
        choices = ", ".join(offered)
        raise ConfigurationError(
            f"{field}={value!r} is not offered by {title}; choose one of: {choices}", ErrorContext(field=field)
        )


def _slug(text: str) -> str:
    """Return the text as lowercase letters, digits and single dashes, safe in paths and URLs of every vendor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


def _poll(request: TrainRequest, recommended: PollPolicy) -> PollPolicy:
    changes: dict[str, object] = {}
    deadline_s = recommended.deadline_s if request.deadline_s is None else request.deadline_s
    if request.deadline_s is not None:
        changes["deadline_s"] = deadline_s
    if request.poll_interval_s is not None:
        changes.update(interval_s=max(request.poll_interval_s, recommended.floor_s), fixed=True)
    if request.on_deadline == "cancel":
        # Whoever wants the run cancelled at the deadline is served by looking until then, seen or not.
        changes["max_blind_s"] = max(recommended.max_blind_s, deadline_s)
        changes["refusal_grace_s"] = max(recommended.refusal_grace_s, deadline_s)
    return recommended.model_copy(update=changes)
