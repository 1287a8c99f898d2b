"""Pictograph's data sets and exports. Source: seed document "Training", checked 2026-11-20."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

from pydantic import JsonValue

from pipeline.errors import ConflictError, InvalidRequestError
from pipeline.models import Export
from pipeline.provider import ByteStream, ResumePoint
from providers.calls import ApiRequest
from providers.http import path_segment
from providers.pictograph.session import PAGE_SIZE, Listing, PictographSession, filters, get, post
from providers.pictograph.values import Dataset
from providers.pictograph.wire import DatasetWire, ExportWire
from providers.storage import SignedStorage

_DATASETS = Listing("datasets.list", "/datasets/", "datasets")


def export_key(operation_key: str) -> str:
    """Return the idempotency key of an operation's export: its own, since one key names one request body."""
    return hashlib.sha256(f"export:{operation_key}".encode()).hexdigest()[:32]


class Datasets:
    """The account's data sets."""

    def __init__(self, session: PictographSession) -> None:
        self._session = session

    def list(self, *, limit: int = 50, offset: int = 0) -> tuple[Dataset, ...]:
        """Return one page."""
        return tuple(row.to_value() for row in self._session.list_rows(_DATASETS, DatasetWire, limit, offset))

    def iter(self, *, page_size: int = PAGE_SIZE) -> Iterator[Dataset]:
        """Yield all of them."""
        return (row.to_value() for row in self._session.iter_rows(_DATASETS, DatasetWire, page_size))

    def get(self, name: str) -> Dataset:
        """Return the data set of this name.

        Raises:
            NotFoundError: There is none.
        """
        quoted = path_segment(name)
        reply = self._session.call_named(
            get("datasets.get", f"/datasets/{quoted}"), get("datasets.get", f"/datasets/by-name/{quoted}")
        )
        return self._session.parse(reply, "dataset", DatasetWire).to_value()


class Exports:
    """Exports of data sets; addressed by the names of both."""

    def __init__(self, session: PictographSession, storage: SignedStorage) -> None:
        self._session = session
        self._storage = storage

    def create(
        self,
        dataset: str,
        name: str,
        *,
        include_images: bool = False,
        class_filter: tuple[str, ...] = (),
        status_filter: str | None = None,
        key: str | None = None,
    ) -> Export:
        """Start an export in the provider's own format.

        Raises:
            ConflictError: The name is taken, or the data set is in cold storage.
        """
        body: dict[str, JsonValue] = {
            "dataset_name": dataset,
            "name": name,
            "format": "pictograph",
            "include_images": include_images,
        }
        if class_filter:
            body["class_filter"] = [*class_filter]
        if status_filter is not None:
            body["status_filter"] = status_filter
        request = post("exports.create", "/exports/", body, key=key)
        return self._session.read(request, "export", ExportWire).to_value(dataset)

    def get(self, dataset: str, name: str) -> Export:
        """Return an export.

        Raises:
            NotFoundError: The data set has no export of this name.
        """
        reply = self._session.call_named(*self._addresses("exports.get", dataset, name))
        return self._session.parse(reply, "export", ExportWire).to_value(dataset)

    def list(
        self, *, dataset: str | None = None, status: str | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[Export, ...]:
        """Return one page."""
        rows = self._session.list_rows(self._listing(dataset, status), ExportWire, limit, offset)
        return tuple(row.to_value(dataset or "") for row in rows)

    def iter(self, *, dataset: str | None = None, page_size: int = PAGE_SIZE) -> Iterator[Export]:
        """Yield all of them."""
        rows = self._session.iter_rows(self._listing(dataset, None), ExportWire, page_size)
        return (row.to_value(dataset or "") for row in rows)

    def open(self, dataset: str, name: str, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the archive for reading, from ``resume`` on where the storage can.

        Raises:
            ConflictError: The export is not completed.
        """
        return self._storage.open(lambda: self._mint(dataset, name), f"export {name!r} of {dataset!r}", resume)

    def _mint(self, dataset: str, name: str) -> str:
        try:
            reply = self._session.call_named(*self._addresses("exports.download", dataset, name, "/download"))
        except InvalidRequestError as error:
            if error.context.status_code != 400:
                raise
            message = f"Export {name!r} of {dataset!r} cannot be downloaded yet: {error.message}"
            raise ConflictError(message, error.context) from error
        return self._session.download_url(reply)

    def _addresses(self, operation: str, dataset: str, name: str, suffix: str = "") -> tuple[ApiRequest, ApiRequest]:
        quoted_dataset, quoted_name = path_segment(dataset), path_segment(name)
        return (
            get(operation, f"/exports/{quoted_name}{suffix}", (("dataset", dataset),)),
            get(operation, f"/exports/{quoted_dataset}/{quoted_name}{suffix}"),
        )

    @staticmethod
    def _listing(dataset: str | None, status: str | None) -> Listing:
        return Listing("exports.list", "/exports/", "exports", filters(dataset_name=dataset, status=status))
