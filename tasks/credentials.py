"""API keys kept as Prefect blocks: encrypted at rest, masked wherever they are shown."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import ClassVar, cast, get_args

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, ValidationError

from pipeline.errors import ConfigurationError, ErrorContext, PipelineError, TransportError
from pipeline.provider import Provider
from pipeline.requests import ProviderName, SweepRequest, TrainRequest, refused
from providers.connect import connect
from providers.settings import VENDORS, read_settings


class PictographCredentials(Block):
    """The key of a Pictograph account."""

    _block_type_name: ClassVar[str] = "Pictograph Credentials"
    _block_type_slug: ClassVar[str] = "pictograph-credentials"

    api_key: SecretStr = Field(description="API key, begins with pk_live_.")


class ReplicateCredentials(Block):
    """The token of a Replicate account."""

    _block_type_name: ClassVar[str] = "Replicate Credentials"
    _block_type_slug: ClassVar[str] = "replicate-credentials"

    api_key: SecretStr = Field(description="API token.")


class BluesightCredentials(Block):
    """The key of a Bluesight server that wants one; the hosted one has no keys."""

    _block_type_name: ClassVar[str] = "Bluesight Credentials"
    _block_type_slug: ClassVar[str] = "bluesight-credentials"

    api_key: SecretStr = Field(description="API key.")


class PhotogptCredentials(Block):
    """The key of a PhotoGPT account."""

    _block_type_name: ClassVar[str] = "PhotoGPT Credentials"
    _block_type_slug: ClassVar[str] = "photogpt-credentials"

    api_key: SecretStr = Field(description="API key.")


Credentials = PictographCredentials | ReplicateCredentials | BluesightCredentials | PhotogptCredentials

BLOCKS: dict[str, type[Credentials]] = {
    "pictograph": PictographCredentials,
    "replicate": ReplicateCredentials,
    "bluesight": BluesightCredentials,
    "photogpt": PhotogptCredentials,
}
"""Each provider's kind of block."""
_REGISTER = "run `prefect block register -m tasks.credentials` once"


def open_provider(request: TrainRequest | SweepRequest) -> closing[Provider]:
    """Connect to the request's provider; every stage opens its own connection and closes it.

    Raises:
        ConfigurationError: There is no key, the named block does not exist or holds none, or no provider is named.
        TransportError: Prefect could not be asked for the block.
    """
    if request.provider is None:
        raise refused("provider", "provider is not set, and one account is to be opened: name it")
    named = None if request.sandbox else request.credentials
    key = _load_key(named, request.provider) if named is not None else None
    asked = request if isinstance(request, TrainRequest) else request.provider
    return closing(connect(asked, sandbox=request.sandbox, api_key=key))


def providers_with_keys(*, sandbox: bool) -> tuple[ProviderName, ...]:
    """Return the providers whose key the environment holds; of the sandbox all, for it has one key for all of them.

    Raises:
        ConfigurationError: The environment cannot be read.
    """
    settings = read_settings()
    names: tuple[ProviderName, ...] = get_args(ProviderName)
    return tuple(name for name in names if sandbox or settings.key_of(VENDORS[name]) is not None)


# Read once: Prefect being away between two stages must not end a run that is being paid for.
_keys: dict[tuple[str, str], SecretStr] = {}
_reading = threading.Lock()


def _load_key(block_name: str, provider: str) -> SecretStr:
    with _reading:
        if (provider, block_name) not in _keys:
            found = _read_block(block_name, provider)
            if isinstance(found, PipelineError):
                raise found  # here, outside of any handler: what Prefect raised may quote the block's content
            _keys[provider, block_name] = found
        return _keys[provider, block_name]


def _read_block(block_name: str, provider: str) -> SecretStr | PipelineError:
    """Return the key in a block, or the error that says why there is none."""
    kind = BLOCKS[provider]
    try:
        block = cast("Credentials", kind.load(block_name))
    except json.JSONDecodeError as error:  # a kind of ValueError: something else than Prefect answered
        return _unreachable(block_name, error)
    except ValueError:
        return _no_key(block_name, provider, f"names no {kind._block_type_slug} block; {_REGISTER} and create it")
    except Exception as error:
        # Prefect's client raises whatever its HTTP library does, and errors of its own around it.
        if _status(error) in {401, 403}:
            return _no_key(block_name, provider, "may not be read with this Prefect API key; allow it, create a block")
        if isinstance(error.__cause__, ValidationError):
            return _no_key(block_name, provider, "holds no API key; create it anew")
        return _unreachable(block_name, error)
    return block.api_key


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _unreachable(block_name: str, error: Exception) -> TransportError:
    message = (
        f"credentials block {block_name!r} could not be read: Prefect's API did not answer as it should "
        f"({type(error).__name__}); check PREFECT_API_URL and that its server is up, then run again"
    )
    return TransportError(message, ErrorContext(operation="credentials.load"))


def _no_key(block_name: str, provider: str, what: str) -> ConfigurationError:
    message = (
        f"credentials={block_name!r} {what} under Blocks in the Prefect UI, or leave credentials empty and set "
        f"{VENDORS[provider].key_variable}"
    )
    return ConfigurationError(message, ErrorContext(field="credentials"))
