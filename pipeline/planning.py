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
from pipeline.models import KEY_IN_NAME, Operation, PollPolicy, ProviderProfile, TrainPlan, TrainRequest
from pipeline.provider import Provider


def fingerprint_request(request: TrainRequest) -> str:
    """Return a SHA-256 over the fields that decide what is trained and where; limits and waiting are left out."""
    deciding = request.model_dump(
        mode="json",
        include={
            "provider",
            "sandbox",
            "dataset",
            "export",
            "pipeline",
            "gpu",
            "config",
            "class_filter",
            "status_filter",
        },
    )
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
    stem = _slug(request.name or f"{request.dataset}-{request.pipeline}")
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
        export_name=request.export or run_name,
        task=profile.pipelines[request.pipeline],
        poll=_poll(request, profile.poll),
        config_asked=request.config,
        output_dir=home / run_name,
    )


def check_reachable(provider: Provider, plan: TrainPlan) -> None:
    """Prove with reading calls that key and data set are accepted.

    Raises:
        ConfigurationError: The key is refused or the data set does not exist; the error names the field.
        ProviderError: The provider could not be asked.
    """
    try:
        provider.check_account(plan)
    except NotFoundError as error:
        raise ConfigurationError(str(error), ErrorContext(operation="datasets.get", field="dataset")) from error
    except (AuthenticationError, PermissionDeniedError) as error:
        raise ConfigurationError(str(error), ErrorContext(operation="credits.balance", field="credentials")) from error


def _check(request: TrainRequest, profile: ProviderProfile) -> None:
    if request.on_out_of_memory == "half_batch" and request.config.batch_size is None:
        raise ConfigurationError(
            "on_out_of_memory='half_batch' needs to know what to halve; set batch_size",
            ErrorContext(field="batch_size"),
        )
    if request.attempt is not None and request.operation is None:
        raise ConfigurationError(
            "attempt counts the attempts at an operation; name the operation as well", ErrorContext(field="attempt")
        )
    if request.operation is not None and request.adopt is not None:
        raise ConfigurationError(
            "operation and adopt are both set; keep the one that names what to come back to",
            ErrorContext(field="adopt"),
        )
    _one_of("pipeline", request.pipeline, tuple(profile.pipelines), profile.title)
    _one_of("gpu", request.gpu, profile.gpus, profile.title)
    if request.budget_usd is not None and request.budget_credits is not None:
        raise ConfigurationError(
            "budget_usd and budget_credits are both set; keep the one in the unit your account is billed in",
            ErrorContext(field="budget_usd"),
        )
    for field in ("class_filter", "status_filter"):
        value = getattr(request, field)
        # Not ``model_fields_set``: a request read back from storage has every field set.
        if request.export and value and value != TrainRequest.model_fields[field].default:
            raise ConfigurationError(
                f"{field}={value!r} applies to a fresh export only, but export={request.export!r} "
                f"names an existing one; leave one of them out",
                ErrorContext(field=field),
            )


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
