"""API keys kept as Prefect blocks: encrypted at rest, masked wherever they are shown."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import ClassVar, cast

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, ValidationError

from pipeline.errors import ConfigurationError, ErrorContext, PipelineError, TransportError
from pipeline.models import SweepRequest, TrainRequest
from pipeline.provider import Provider
from providers.connect import connect


class PictographCredentials(Block):
    """The key of a Pictograph account."""

    _block_type_name: ClassVar[str] = "Pictograph Credentials"
    _block_type_slug: ClassVar[str] = "pictograph-credentials"

    api_key: SecretStr = Field(description="API key, begins with pk_live_.")


def open_provider(request: TrainRequest | SweepRequest) -> closing[Provider]:
    """Connect to the request's provider; every stage opens its own connection and closes it.

    Raises:
        ConfigurationError: There is no key, or the named block does not exist or holds none.
        TransportError: Prefect could not be asked for the block.
    """
    key = None if request.sandbox or request.credentials is None else _load_key(request.credentials)
    return closing(connect(request.provider, sandbox=request.sandbox, api_key=key))


# Read once: Prefect being away between two stages must not end a run that is being paid for.
_keys: dict[str, SecretStr] = {}
_reading = threading.Lock()


def _load_key(block_name: str) -> SecretStr:
    with _reading:
        if block_name not in _keys:
            found = _read_block(block_name)
            if isinstance(found, PipelineError):
                raise found  # here, outside of any handler: what Prefect raised may quote the block's content
            _keys[block_name] = found
        return _keys[block_name]


def _read_block(block_name: str) -> SecretStr | PipelineError:
    """Return the key in a block, or the error that says why there is none."""
    try:
        block = cast("PictographCredentials", PictographCredentials.load(block_name))
    except json.JSONDecodeError as error:  # a kind of ValueError: something else than Prefect answered
        return _unreachable(block_name, error)
    except ValueError:
        return _no_key(block_name, f"names no {PictographCredentials._block_type_slug} block; create it")
    except Exception as error:
        # Prefect's client raises whatever its HTTP library does, and errors of its own around it.
        if _status(error) in {401, 403}:
            return _no_key(block_name, "may not be read with this Prefect API key; allow it, create a block")
        if isinstance(error.__cause__, ValidationError):
            return _no_key(block_name, "holds no API key; create it anew")
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


def _no_key(block_name: str, what: str) -> ConfigurationError:
    message = (
        f"credentials={block_name!r} {what} under Blocks in the Prefect UI, or leave credentials empty and set "
        f"PICTOGRAPH_API_KEY"
    )
    return ConfigurationError(message, ErrorContext(field="credentials"))
