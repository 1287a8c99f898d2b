"""From a request to a connected provider; the only importer of the sandbox.

A hosted key goes to the hosted provider it belongs to and nowhere else; the sandbox has a key of its own, which goes
nowhere else either.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.journal.budget import Caps
from pipeline.journal.store import Journal
from pipeline.local_requests import ReplicateRequest
from pipeline.models import PIPELINE_TASKS
from pipeline.provider import Provider
from pipeline.requests import TrainRequest
from providers.calls import ClientOptions
from providers.retry import RetryPolicy
from providers.settings import (
    KEYLESS,
    VENDORS,
    Settings,
    Vendor,
    checked_run_page,
    checked_url,
    leads_to_hosted,
    read_settings,
    stripped,
)

JOURNAL_FILE = Path("~/.local/share/train-pipeline/journal.db")
"""The journal when nothing else is named."""
# What the extra installs: the sandbox trains real models.
_SANDBOX_LIBRARIES = ("torch", "onnx", "pycocotools")


def open_journal() -> Journal:
    """Open the journal the environment names, or this user's own.

    Raises:
        ConfigurationError: Its address cannot be used; the message names the variable.
        JournalError: It cannot be opened.
    """
    named = stripped(read_settings().train_pipeline_journal)
    return Journal(named.get_secret_value() if named is not None else str(JOURNAL_FILE.expanduser()))


def read_caps() -> Caps:
    """Return the caps on what may be spent, as the environment names them.

    Raises:
        ConfigurationError: A variable cannot be read.
    """
    settings = read_settings()
    return Caps(
        day_usd=settings.train_pipeline_day_cap_usd,
        month_usd=settings.train_pipeline_month_cap_usd,
        day_credits=settings.train_pipeline_day_cap_credits,
        month_credits=settings.train_pipeline_month_cap_credits,
    )


@dataclass(frozen=True)
class _Line:
    """Everything an adapter is made of."""

    key: SecretStr | None
    options: ClientOptions
    settings: Settings
    sandbox: bool
    request: TrainRequest | None


def connect(asked: TrainRequest | str, *, sandbox: bool, api_key: SecretStr | None = None) -> Provider:
    """Return the adapter of a provider, named or taken from a request; ``api_key`` wins over the environment's.

    Raises:
        ConfigurationError: The provider is unknown, or what it needs is not configured; the message names the variable.
    """
    name = asked if isinstance(asked, str) else asked.provider
    vendor = VENDORS.get(name)
    if vendor is None:
        message = f"There is no provider {name!r}: use one of {', '.join(VENDORS)}."
        raise ConfigurationError(message, ErrorContext(field="provider"))
    settings = read_settings()
    url, key = _sandbox_address(settings, vendor) if sandbox else _hosted_address(settings, vendor, api_key)
    options = ClientOptions(
        base_url=url,
        timeout_s=settings.timeout_of(vendor),
        retry=RetryPolicy(attempts=1 + settings.retries_of(vendor)),
    )
    request = None if isinstance(asked, str) else asked
    return _ADAPTERS[name](_Line(key, options, settings, sandbox, request))


def _pictograph(line: _Line) -> Provider:
    from providers.pictograph.adapter import PictographProvider
    from providers.pictograph.profile import pictograph_profile

    run_page = "" if line.sandbox else checked_run_page(line.settings.pictograph_run_page)
    profile = pictograph_profile(sandbox=line.sandbox, run_page=run_page)
    return PictographProvider(_present(line.key), line.options, profile)


def _replicate(line: _Line) -> Provider:
    from providers.replicate.adapter import ReplicateProvider
    from providers.replicate.profile import replicate_profile
    from providers.replicate.values import ReplicateSetup

    webhook_url = line.settings.replicate_webhook_url
    if webhook_url is not None and not line.sandbox and not webhook_url.startswith("https://"):
        message = "REPLICATE_WEBHOOK_URL is not an https address, and the provider calls no other: correct or unset it."
        raise ConfigurationError(message, ErrorContext(field="REPLICATE_WEBHOOK_URL"))
    request = line.request if isinstance(line.request, ReplicateRequest) else None
    setup = ReplicateSetup(
        hardware=request.hardware if request is not None else None,
        task=PIPELINE_TASKS[request.pipeline] if request is not None else None,
        rates={name: usd * 1_000_000 for name, usd in line.settings.replicate_rates.items()},
        webhook=webhook_url,
        # A rehearsal gets no secret, as it gets no hosted key.
        secret_inputs={} if line.sandbox else _secret_inputs(line.settings.replicate_secret_inputs),
    )
    # Nobody calls back who was not asked to: a watcher then has no deliveries to look for.
    profile = replicate_profile(sandbox=line.sandbox).model_copy(update={"sends_webhooks": webhook_url is not None})
    return ReplicateProvider(_present(line.key), line.options, profile, setup)


def _secret_inputs(given: SecretStr | None) -> dict[str, SecretStr]:
    if (text := stripped(given)) is None:
        return {}
    try:
        read = json.loads(text.get_secret_value())
    except (ValueError, RecursionError):  # raised below, for the error's own cause would quote it
        read = None
    usable = isinstance(read, dict) and all(
        name and isinstance(value, str) and value.strip() for name, value in read.items()
    )
    if not usable:
        message = "REPLICATE_SECRET_INPUTS is not a JSON object of input names and their texts: correct or unset it."
        raise ConfigurationError(message, ErrorContext(field="REPLICATE_SECRET_INPUTS"))
    return {name: SecretStr(value) for name, value in read.items()}


def _bluesight(line: _Line) -> Provider:
    from providers.bluesight.adapter import BluesightProvider
    from providers.bluesight.profile import bluesight_profile
    from providers.bluesight.session import CONNECT_S, AnswerTimes

    options = replace(line.options, timeout_s=CONNECT_S)
    times = AnswerTimes(read_s=line.settings.bluesight_timeout)
    return BluesightProvider(line.key, options, bluesight_profile(sandbox=line.sandbox), times=times)


def _photogpt(line: _Line) -> Provider:
    from providers.photogpt.adapter import PhotogptProvider
    from providers.photogpt.profile import photogpt_profile

    return PhotogptProvider(_present(line.key), line.options, photogpt_profile(sandbox=line.sandbox))


_ADAPTERS: dict[str, Callable[[_Line], Provider]] = {
    "pictograph": _pictograph,
    "replicate": _replicate,
    "bluesight": _bluesight,
    "photogpt": _photogpt,
}


def _present(key: SecretStr | None) -> SecretStr:
    if key is None:
        raise AssertionError("unreachable: a vendor that needs a key was given none")
    return key


def _hosted_address(settings: Settings, vendor: Vendor, api_key: SecretStr | None) -> tuple[str, SecretStr | None]:
    key = stripped(api_key) or settings.key_of(vendor)
    if key is None and vendor.needs_key:
        message = f"{vendor.title} needs an API key: set {vendor.key_variable}, or {KEYLESS}."
        raise ConfigurationError(message, ErrorContext(field=vendor.key_variable))
    return checked_url(settings.url_of(vendor), vendor.url_variable), key


def _sandbox_address(settings: Settings, vendor: Vendor) -> tuple[str, SecretStr]:
    url, key = settings.train_pipeline_sandbox_url, stripped(settings.train_pipeline_sandbox_key)
    if url is None and key is None:
        url, key = _started_sandbox()
    if url is None or key is None:
        missing = "TRAIN_PIPELINE_SANDBOX_URL" if url is None else "TRAIN_PIPELINE_SANDBOX_KEY"
        message = f"A running sandbox needs its address and its key: {missing} is not set. Unset both to start one."
        raise ConfigurationError(message, ErrorContext(field=missing))
    checked_url(url, "TRAIN_PIPELINE_SANDBOX_URL")
    if leads_to_hosted(url, settings):
        message = "TRAIN_PIPELINE_SANDBOX_URL is the hosted provider's address: a rehearsal must not reach it."
        raise ConfigurationError(message, ErrorContext(field="TRAIN_PIPELINE_SANDBOX_URL"))
    return url.rstrip("/") + vendor.sandbox_path, key


def _started_sandbox() -> tuple[str, SecretStr]:
    missing = [name for name in _SANDBOX_LIBRARIES if find_spec(name) is None]
    if missing:
        message = f"The sandbox needs {', '.join(missing)}: pip install 'train-pipeline[sandbox]'."
        raise ConfigurationError(message, ErrorContext(field="sandbox"))
    from sandbox.launch import SandboxStartError, ensure_running

    try:
        address = ensure_running()
    except SandboxStartError as exc:
        raise ConfigurationError(f"The sandbox did not start: {exc}", ErrorContext(field="sandbox")) from exc
    return address.url, SecretStr(address.api_key)
