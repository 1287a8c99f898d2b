"""What the environment says, and where each vendor's API is; the only reader of environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from pipeline.errors import ConfigurationError, ErrorContext
from providers.transport import trusts_environment

KEYLESS = "run with --sandbox, which needs no account"
_Seconds = Annotated[float, Field(gt=0, le=3600)]
_Retries = Annotated[int, Field(ge=0, le=20)]


@dataclass(frozen=True)
class Vendor:
    """Where a vendor's API is, and which variables are about it."""

    title: str
    """The vendor's name for people."""
    url: str
    """Address of the hosted API."""
    key_variable: str
    """The variable that holds the key."""
    needs_key: bool = True
    """Whether the API has keys at all."""
    sandbox_path: str = ""
    """What the sandbox's address is followed by where it speaks this API."""

    @property
    def name(self) -> str:
        """The vendor's short name."""
        return self.title.lower()

    @property
    def url_variable(self) -> str:
        """The variable that holds another address."""
        return f"{self.title.upper()}_BASE_URL"


VENDORS: dict[str, Vendor] = {
    vendor.name: vendor
    for vendor in (
        Vendor("Pictograph", "https://api.pictograph.io", "PICTOGRAPH_API_KEY"),
        Vendor("Replicate", "https://api.replicate.com", "REPLICATE_API_TOKEN"),
        Vendor("Bluesight", "https://api.bluesight.ai", "BLUESIGHT_API_KEY", needs_key=False),
        Vendor("PhotoGPT", "https://developer.photogptai.com/api", "PHOTOGPT_API_KEY", sandbox_path="/api"),
    )
}
"""The vendors by name."""


class Settings(BaseSettings):
    """What the environment says; names are the fields in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, frozen=True)

    pictograph_api_key: SecretStr | None = None
    """The hosted account's key."""
    pictograph_base_url: str = VENDORS["pictograph"].url
    """Address of the hosted API."""
    pictograph_timeout: _Seconds = 30.0
    """Seconds to wait for a connection, and between bytes of an answer; of a file, no less than a minute."""
    pictograph_max_retries: _Retries = 3
    """Requests after the first one, where repeating is safe."""
    pictograph_run_page: str = ""
    """Address of a run's page for people; only ``{run_id}`` and ``{dataset}`` stand for something."""
    replicate_api_token: SecretStr | None = None
    """The account's token."""
    replicate_base_url: str = VENDORS["replicate"].url
    """Address of the hosted API, without /v1."""
    replicate_timeout: _Seconds = 30.0
    """Seconds to wait for a connection, and between bytes of an answer."""
    replicate_max_retries: _Retries = 3
    """Requests after the first one, where repeating is safe."""
    replicate_rates: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """US dollars a second by hardware, as a JSON object; takes the place of what is built in."""
    replicate_webhook_url: str | None = None
    """Public https address of the webhook receiver; empty asks for no webhooks."""
    replicate_webhook_secret: SecretStr | None = None
    """What webhooks are signed with; empty asks the API for it."""
    replicate_secret_inputs: SecretStr | None = None
    """A trainer's secret inputs, as a JSON object of names and values: added when a training is sent, never stored."""
    bluesight_api_key: SecretStr | None = None
    """A key for a server that wants one; the hosted one has none."""
    bluesight_base_url: str = VENDORS["bluesight"].url
    """Address of the API."""
    bluesight_timeout: _Seconds = 60.0
    """Seconds to wait for an answer."""
    bluesight_max_retries: _Retries = 3
    """Requests after the first one, where repeating is safe."""
    photogpt_api_key: SecretStr | None = None
    """The hosted account's key."""
    photogpt_base_url: str = VENDORS["photogpt"].url
    """Address of the hosted API."""
    photogpt_timeout: _Seconds = 120.0
    """Seconds to wait for an answer."""
    photogpt_max_retries: _Retries = 3
    """Requests after the first one, where repeating is safe."""
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

    def key_of(self, vendor: Vendor) -> SecretStr | None:
        """Return a vendor's key; none when it is not set."""
        return stripped(getattr(self, vendor.key_variable.lower()))

    def url_of(self, vendor: Vendor) -> str:
        """Return the address of a vendor's hosted API."""
        return str(getattr(self, vendor.url_variable.lower()))

    def timeout_of(self, vendor: Vendor) -> float:
        """Return the seconds to wait for a vendor's answers."""
        return float(getattr(self, f"{vendor.name}_timeout"))

    def retries_of(self, vendor: Vendor) -> int:
        """Return the requests after the first one, where repeating is safe."""
        return int(getattr(self, f"{vendor.name}_max_retries"))


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: A variable cannot be read; the message names it and not its value.
    """
    try:
        return Settings()
    except SettingsError as exc:  # a value that should be JSON and is none; the error's own cause quotes it
        name = str(exc).partition('"')[2].partition('"')[0].upper()
        unread = ConfigurationError(
            f"The environment variable {name} cannot be read: correct or unset it.", ErrorContext(field=name)
        )
    except ValidationError as exc:
        names = sorted({str(error["loc"][0]).upper() for error in exc.errors(include_input=False)})
        message = f"The environment variable {', '.join(names)} cannot be read: correct or unset it."
        unread = ConfigurationError(message, ErrorContext(field=names[0]))
    raise unread


def stripped(key: SecretStr | None) -> SecretStr | None:
    """Return a key without the blanks around it; none when nothing is left."""
    text = key.get_secret_value().strip() if key is not None else ""
    return SecretStr(text) if text else None


def checked_url(url: str, variable: str) -> str:
    """Return an address an API can have.

    Raises:
        ConfigurationError: It cannot be one; the message names the variable.
    """
    if not is_address(url):
        message = f"{variable} is not an address the API can have: give http(s)://host[:port][/prefix], nothing else."
        raise ConfigurationError(message, ErrorContext(field=variable))
    return url


def is_address(url: str) -> bool:
    """Tell whether a URL is plain enough to be an API's address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def checked_run_page(template: str) -> str:
    """Return the address's template when every run can be put into it.

    Raises:
        ConfigurationError: It cannot be; the message names the variable.
    """
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


def leads_to_hosted(url: str, settings: Settings) -> bool:
    """Tell whether a sandbox's address is a hosted API's; on this machine there is none."""
    for vendor in VENDORS.values():
        if any(_same_server(url, hosted, vendor) for hosted in (vendor.url, settings.url_of(vendor))):
            return True
    return False


def _same_server(url: str, hosted: str, vendor: Vendor) -> bool:
    if not is_address(hosted) or not trusts_environment(hosted):
        return False
    return urlsplit(url).hostname == urlsplit(hosted).hostname and (hosted == vendor.url or _port(url) == _port(hosted))


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
