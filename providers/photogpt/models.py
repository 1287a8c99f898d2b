"""PhotoGPT's models: a person's pictures, trained once. Source: https://docs.photogptai.com, checked 2026-11-20."""

from __future__ import annotations

from pydantic import JsonValue

from providers.calls import ApiRequest
from providers.http import path_segment
from providers.photogpt.errors import CREATE_MODEL
from providers.photogpt.session import PhotogptSession
from providers.photogpt.wire import ModelWire


class Models:
    """The account's models."""

    def __init__(self, session: PhotogptSession) -> None:
        self._session = session

    def all(self) -> tuple[ModelWire, ...]:
        """Return every model of the account."""
        request = ApiRequest("models.list", "GET", "/models", repeatable=True)
        return tuple(row for opened in self._session.pages(request, None) for row in opened.rows(ModelWire))

    def get(self, model_id: str) -> ModelWire:
        """Read one.

        Raises:
            NotFoundError: There is none of this id.
            UnexpectedResponseError: It has no status, or is another one.
        """
        request = ApiRequest("models.get", "GET", f"/models/{path_segment(model_id)}", repeatable=True)
        opened = self._session.call(request)
        model = self._session.parse(opened, ModelWire)
        if not model.word:
            raise opened.reply.unreadable("the model has no status")
        if model.id.lower() != model_id.lower():
            raise opened.reply.unreadable("it is about another model")
        return model

    def create(self, about: dict[str, JsonValue]) -> ModelWire:
        """Make one, free of charge; whether it was made after a lost answer is for the caller to find out."""
        return self._session.read(ApiRequest(CREATE_MODEL, "POST", "/models", body=about, effect=True), ModelWire)

    def train(self, model_id: str) -> None:
        """Trigger the paid training: a GET with an effect, sent once and kept from every cache.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set when it may have been triggered all the same.
        """
        self._session.call(
            ApiRequest(
                "models.train",
                "GET",
                f"/models/{path_segment(model_id)}/train",
                effect=True,
                headers=(("Cache-Control", "no-store"),),
            )
        )
