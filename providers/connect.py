"""From a request to a connected provider: the only reader of environment and secrets, the only importer of the sandbox.

A hosted key goes to the hosted provider and nowhere else; the sandbox has a key of its own, which goes nowhere else
either.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from string import Formatter
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.budget import Caps
from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.journal import Journal
from pipeline.models import TrainRequest
from pipeline.provider import Provider
from providers.http import ClientOptions, trusts_environment
from providers.pictograph import PictographProvider
from providers.pictograph_profile import pictograph_profile
from providers.pictograph_wire import PROVIDER
from providers.retry import RetryPolicy

PICTOGRAPH_URL = "https://api.pictograph.io"
JOURNAL_FILE = Path("~/.local/share/train-pipeline/journal.db")
"""The journal when nothing else is named."""
# What the extra installs: the sandbox trains real models.
_SANDBOX_LIBRARIES = ("torch", "onnx", "pycocotools")
_KEYLESS = "run with --sandbox, which needs no account"


class Settings(BaseSettings):
    """What the environment says; names are the fields in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, frozen=True)

    pictograph_api_key: SecretStr | None = None
    """The hosted account's key."""
    pictograph_base_url: str = PICTOGRAPH_URL
    """Address of the hosted API."""
    pictograph_timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds to wait for a connection, and between bytes of an answer; of a file, no less than a minute."""
    pictograph_max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    """Requests after the first one, where repeating is safe."""
    pictograph_run_page: str = ""
    """Address of a run's page for people; only ``{run_id}`` and ``{dataset}`` stand for something."""
    train_pipeline_sandbox_url: str | None = None
    """Address of a sandbox that is already running."""
    train_pipeline_sandbox_key: SecretStr | None = None
    """Its key."""
    train_pipeline_journal: SecretStr | None = None
    """The journal: a file's path, or postgresql://... when several machines share it."""
    train_pipeline_day_cap_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The most that may be spent in a calendar day (UTC), over all runs of the journal, in US dollars."""
    train_pipeline_month_cap_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The same for a calendar month."""
    train_pipeline_day_cap_credits: Annotated[int, Field(gt=0)] | None = None
    """The most a day in credits, for accounts billed in credits."""
    train_pipeline_month_cap_credits: Annotated[int, Field(gt=0)] | None = None
    """The same for a calendar month."""


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: A variable cannot be read; the message names it and not its value.
    """
    try:
        return Settings()
    except ValidationError as exc:
        names = sorted({str(error["loc"][0]).upper() for error in exc.errors(include_input=False)})
        message = f"The environment variable {', '.join(names)} cannot be read: correct or unset it."
        raise ConfigurationError(message, ErrorContext(field=names[0])) from None


def open_journal() -> Journal:
    """Open the journal the environment names, or this user's own.

    Raises:
        ConfigurationError: Its address cannot be used; the message names the variable.
        JournalError: It cannot be opened.
    """
    named = _stripped(read_settings().train_pipeline_journal)
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


def connect(asked: TrainRequest | str, *, sandbox: bool, api_key: SecretStr | None = None) -> Provider:
    """Return the adapter of a provider, named or taken from a request; ``api_key`` wins over the environment's.

    Raises:
        ConfigurationError: The provider is unknown, or what it needs is not configured; the message names the variable.
    """
    name = asked if isinstance(asked, str) else asked.provider
    if name != PROVIDER:
        message = f"There is no provider {name!r}: use {PROVIDER!r}."
        raise ConfigurationError(message, ErrorContext(field="provider"))
    settings = read_settings()
    url, key = _sandbox_address(settings) if sandbox else _hosted_address(settings, api_key)
    options = ClientOptions(
        base_url=url,
        timeout_s=settings.pictograph_timeout,
        retry=RetryPolicy(attempts=1 + settings.pictograph_max_retries),
    )
    run_page = "" if sandbox else _checked_run_page(settings.pictograph_run_page)
    return PictographProvider(key, options, pictograph_profile(sandbox=sandbox, run_page=run_page))


def _stripped(key: SecretStr | None) -> SecretStr | None:
    text = key.get_secret_value().strip() if key is not None else ""
    return SecretStr(text) if text else None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def _checked_url(url: str, variable: str) -> str:
    if not _is_address(url):
        message = f"{variable} is not an address the API can have: give http(s)://host[:port][/prefix], nothing else."
        raise ConfigurationError(message, ErrorContext(field=variable))
    return url


def _checked_run_page(template: str) -> str:
    """Return the address's template when every run can be put into it."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
        page = template.format(run_id="r", dataset="d")
    except (ValueError, LookupError, AttributeError):
        fields, page = [""], ""
    known = set(fields) <= {"run_id", "dataset"}
    if template and not (known and page.startswith(("https://", "http://"))):
        message = "PICTOGRAPH_RUN_PAGE is not an address with {run_id} and {dataset} alone: correct or unset it."
        raise ConfigurationError(message, ErrorContext(field="PICTOGRAPH_RUN_PAGE"))
    return template


def _hosted_address(settings: Settings, api_key: SecretStr | None) -> tuple[str, SecretStr]:
    key = _stripped(api_key) or _stripped(settings.pictograph_api_key)
    if key is None:
        message = f"Pictograph needs an API key: set PICTOGRAPH_API_KEY, or {_KEYLESS}."
        raise ConfigurationError(message, ErrorContext(field="PICTOGRAPH_API_KEY"))
    return _checked_url(settings.pictograph_base_url, "PICTOGRAPH_BASE_URL"), key


def _sandbox_address(settings: Settings) -> tuple[str, SecretStr]:
    url, key = settings.train_pipeline_sandbox_url, _stripped(settings.train_pipeline_sandbox_key)
    if url is None and key is None:
        return _started_sandbox()
    if url is None or key is None:
        missing = "TRAIN_PIPELINE_SANDBOX_URL" if url is None else "TRAIN_PIPELINE_SANDBOX_KEY"
        message = f"A running sandbox needs its address and its key: {missing} is not set. Unset both to start one."
        raise ConfigurationError(message, ErrorContext(field=missing))
    _checked_url(url, "TRAIN_PIPELINE_SANDBOX_URL")
    if any(_same_server(url, hosted) for hosted in (PICTOGRAPH_URL, settings.pictograph_base_url)):
        message = "TRAIN_PIPELINE_SANDBOX_URL is the hosted provider's address: a rehearsal must not reach it."
        raise ConfigurationError(message, ErrorContext(field="TRAIN_PIPELINE_SANDBOX_URL"))
    return url, key


def _same_server(url: str, hosted: str) -> bool:
    """Tell whether a sandbox's address leads to a hosted one; on this machine there is none."""
    if not _is_address(hosted) or not trusts_environment(hosted):
        return False
    return urlsplit(url).hostname == urlsplit(hosted).hostname and (
        hosted == PICTOGRAPH_URL or _port(url) == _port(hosted)
    )


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


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
