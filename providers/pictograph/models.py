"""Pictograph's models and their weights. Source: seed document "Models", checked 2026-11-20."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from pipeline.errors import ConflictError, ErrorContext, InvalidRequestError, NotFoundError
from pipeline.provider import ByteStream, ResumePoint
from providers.calls import ApiRequest
from providers.http import path_segment
from providers.pictograph.session import PAGE_SIZE, Listing, PictographSession, filters, get
from providers.pictograph.values import ModelFile, ModelRecord, ModelVersion
from providers.pictograph.wire import FilesWire, ModelWire, VersionWire
from providers.storage import SignedStorage

READY = "ready"


class Models:
    """Trained models."""

    def __init__(self, session: PictographSession, storage: SignedStorage) -> None:
        self._session = session
        self._storage = storage

    def list(self, *, limit: int = 50, offset: int = 0, **chosen: str | None) -> tuple[ModelRecord, ...]:
        """Return one page; ``chosen`` are ``name``, ``dataset_name``, ``status`` and ``model_type``."""
        rows = self._session.list_rows(self._listing(**chosen), ModelWire, limit, offset)
        return tuple(row.to_value() for row in rows)

    def iter(self, *, page_size: int = PAGE_SIZE, **chosen: str | None) -> Iterator[ModelRecord]:
        """Yield all of them, filtered as in ``list``."""
        return (row.to_value() for row in self._session.iter_rows(self._listing(**chosen), ModelWire, page_size))

    def get(self, model_id: str) -> ModelRecord:
        """Return a model.

        Raises:
            NotFoundError: There is none of this id.
        """
        request = get("models.get", f"/models/{path_segment(model_id)}")
        return self._session.read(request, "model", ModelWire).to_value()

    def versions(self, model_id: str) -> tuple[ModelVersion, ...]:
        """Return a model's versions."""
        path = f"/models/{path_segment(model_id)}/versions"
        reply = self._session.call(get("models.versions", path))
        return tuple(row.to_value() for row in self._session.parse_rows(reply, "versions", VersionWire))

    def files(self, model_id: str) -> tuple[ModelFile, ...]:
        """Return the files of a model's versions."""
        request = get("models.files", f"/models/{path_segment(model_id)}/files")
        return tuple(row.to_value() for row in self._session.read(request, "manifest", FilesWire).files)

    def delete(self, model_id: str) -> None:
        """Remove a model.

        Raises:
            NotFoundError: There is none of this id.
        """
        path = f"/models/{path_segment(model_id)}"
        try:
            self._session.call(ApiRequest("models.delete", "DELETE", path, repeatable=True, effect=True))
        except NotFoundError as error:
            # Gone after an attempt whose answer was lost: that attempt removed it.
            if not error.context.outcome_unknown:
                raise

    def open(self, model: ModelRecord, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the ONNX weights for reading, from ``resume`` on where the storage can.

        Raises:
            ConflictError: The model is not ready, or never got ONNX weights.
            NotFoundError: The weights are not in storage.
        """
        if model.status != READY:
            message = f"Model {model.name!r} has status {model.status!r}; only {READY!r} ones can be downloaded."
            raise ConflictError(message, ErrorContext(operation="models.download"))
        return self._storage.open(lambda: self._mint(model), f"weights of model {model.name!r}", resume)

    def _mint(self, model: ModelRecord) -> str:
        path = f"/models/{path_segment(model.id)}/download"
        try:
            reply = self._session.call(get("models.download", path, (("format", "onnx"),)))
        except (ConflictError, InvalidRequestError) as error:
            message = f"The weights of model {model.name!r} cannot be downloaded: {error.message}"
            raise ConflictError(message, error.context) from error
        except NotFoundError as error:
            message = f"The weights of model {model.name!r} are missing at the provider: {error.message}"
            raise NotFoundError(message, error.context) from error
        return self._session.download_url(reply)

    @staticmethod
    def _listing(
        *,
        name: str | None = None,
        dataset_name: str | None = None,
        status: str | None = None,
        model_type: str | None = None,
    ) -> Listing:
        chosen = filters(name=name, dataset_name=dataset_name, status=status, model_type=model_type)
        return Listing("models.list", "/models/", "models", chosen)
