"""API keys kept as Prefect blocks: encrypted at rest, masked wherever they are shown."""

from __future__ import annotations

from contextlib import closing
from typing import ClassVar, cast

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.models import TrainRequest
from pipeline.provider import Provider
from providers.connect import connect


class PictographCredentials(Block):
    """The key of a Pictograph account."""

    _block_type_name: ClassVar[str] = "Pictograph Credentials"
    _block_type_slug: ClassVar[str] = "pictograph-credentials"

    api_key: SecretStr = Field(description="API key, begins with pk_live_.")


def open_provider(request: TrainRequest) -> closing[Provider]:
    """Connect to the request's provider; every stage opens its own connection and closes it.

    Raises:
        ConfigurationError: There is no key, or the named block does not exist.
    """
    key = None if request.sandbox or request.credentials is None else _load_key(request.credentials)
    return closing(connect(request.provider, sandbox=request.sandbox, api_key=key))


def _load_key(block_name: str) -> SecretStr:
    try:
        block = cast("PictographCredentials", PictographCredentials.load(block_name))
    except ValueError as error:
        raise ConfigurationError(
            f"credentials={block_name!r} names no {PictographCredentials._block_type_slug} block; create it under "
            f"Blocks in the Prefect UI, or leave credentials empty and set PICTOGRAPH_API_KEY",
            ErrorContext(field="credentials"),
        ) from error
    return block.api_key
