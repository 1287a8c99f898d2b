"""Models and their versions; a trainer is a version as well. Source: OpenAPI 1.0.0-a1, checked 2026-11-20."""

from __future__ import annotations

from contextlib import suppress

from pipeline.errors import NotFoundError, ProviderError
from providers.calls import ApiRequest
from providers.replicate.session import ReplicateSession, get, model_path, version_path
from providers.replicate.wire import ModelWire, VersionWire


class Models:
    """Models, named ``owner/name``."""

    def __init__(self, session: ReplicateSession) -> None:
        self._session = session

    def get(self, model: str) -> ModelWire:
        """Return a model.

        Raises:
            NotFoundError: There is none of this name that the account may see.
        """
        return self._session.read(get("models.get", model_path(model)), ModelWire)

    def version(self, version: str) -> VersionWire:
        """Return a version, named ``owner/name:id``.

        Raises:
            NotFoundError: There is none of this name that the account may see.
        """
        return self._session.read(get("versions.get", version_path(version)), VersionWire)

    def ensure(self, model: str, *, hardware: str) -> ModelWire:
        """Return the model, made privately for ``hardware`` when there is none. Making one is free.

        Raises:
            ProviderError: It could not be made, and is not there either.
        """
        with suppress(NotFoundError):
            return self.get(model)
        owner, _, name = model.partition("/")
        body = {"owner": owner, "name": name, "visibility": "private", "hardware": hardware}
        try:
            return self._session.read(ApiRequest("models.create", "POST", "/v1/models", body=body), ModelWire)
        except ProviderError as refusal:
            # Somebody else, or a request whose answer was lost, may have made it in the meantime.
            with suppress(NotFoundError):
                return self.get(model)
            raise refusal from None
