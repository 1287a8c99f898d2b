"""A model's pictures at PhotoGPT: uploaded under neutral numbers, known by their ids.

Source: https://docs.photogptai.com, checked 2026-11-20.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.errors import NotFoundError
from providers.calls import ApiRequest, UploadPart
from providers.http import path_segment
from providers.photogpt.session import PAGE_SIZE, PhotogptSession
from providers.photogpt.wire import ImageWire

_MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "heic": "image/heic"}
_INPUT_TYPES = frozenset({"", "modelinput", "input"})


@dataclass(frozen=True)
class Upload:
    """A picture that is sent."""

    number: int
    """Its number among the pictures, from 1: the name it is sent under."""
    format: str
    """``jpg``, ``png``, ``webp`` or ``heic``."""
    content: bytes = field(repr=False)
    """The file."""


class Images:
    """Pictures of models."""

    def __init__(self, session: PhotogptSession) -> None:
        self._session = session

    def upload(self, model_id: str, picture: Upload) -> ImageWire:
        """Add a picture to train on; sent again it would be added again.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set when it may have arrived all the same.
        """
        data = json.dumps({"modelID": model_id, "type": "modelInput"}).encode()
        media_type = _MEDIA_TYPES.get(picture.format, "application/octet-stream")
        parts = (
            UploadPart("file", picture.content, f"{picture.number:02}.{picture.format}", media_type),
            UploadPart("data", data, None, "application/json"),
        )
        return self._session.read(
            ApiRequest("images.upload", "POST", "/images/upload", parts=parts, effect=True), ImageWire
        )

    def inputs(self, model_id: str) -> tuple[str, ...]:
        """Return the ids of the pictures a model is trained on."""
        path = f"/models/{path_segment(model_id)}/images"
        request = ApiRequest("images.list", "GET", path, (("imageType", "input"),), repeatable=True)
        rows = [row for opened in self._session.pages(request, PAGE_SIZE) for row in opened.rows(ImageWire)]
        ids = [row.id for row in rows if (row.type or "").lower() in _INPUT_TYPES]
        return tuple(dict.fromkeys(ids))

    def exists(self, image_id: str) -> bool:
        """Tell whether a picture is there, whatever the list shows."""
        try:
            self._session.call(ApiRequest("images.get", "GET", f"/images/{path_segment(image_id)}", repeatable=True))
        except NotFoundError:
            return False
        return True

    def delete(self, image_id: str) -> None:
        """Remove a picture; one that is gone already is no error."""
        path = f"/images/{path_segment(image_id)}"
        with suppress(NotFoundError):
            self._session.call(ApiRequest("images.delete", "DELETE", path, repeatable=True))
