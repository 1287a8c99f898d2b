"""Bluesight's hosted inference: what a trained model sees on tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import JsonValue

from pipeline.data.tile_samples import SampleTile
from pipeline.errors import NotFoundError, ProviderUnavailableError
from providers.bluesight.session import BluesightSession
from providers.bluesight.wire import LabelsWire
from providers.calls import ApiRequest
from providers.retry import Clock

TILES_IN_A_CALL = 2
"""Most tiles of one call: a tile's pixels are megabytes of text."""
_FRESH_WAIT_S = 5.0
_MAYBE_FRESH = frozenset({400, 404})


class Inference:
    """Questions to trained models; free of charge."""

    def __init__(self, session: BluesightSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def ask(self, model_id: str, tiles: Sequence[SampleTile]) -> list[JsonValue]:
        """Return a model's answer to tiles that share bands, size and the rest: a label, or a mask of labels, each.

        A model that is not there, or fails, is asked once more: one that was only just made may not be at hand yet.

        Raises:
            NotFoundError: There is no such model.
            InvalidRequestError: The tiles were refused.
            ProviderUnavailableError: The server failed.
        """
        try:
            return self._ask(model_id, tiles)
        except (NotFoundError, ProviderUnavailableError) as error:
            if error.context.status_code not in _MAYBE_FRESH:
                raise
        self._clock.sleep(_FRESH_WAIT_S)
        return self._ask(model_id, tiles)

    def _ask(self, model_id: str, tiles: Sequence[SampleTile]) -> list[JsonValue]:
        request = ApiRequest(
            "inference.ask",
            "POST",
            "/inference",
            body={"model": model_id, "images": [_image(tile) for tile in tiles]},
            timeout_s=self._session.times.inference_s,
        )
        return self._session.read(request, LabelsWire).labels


def calls_of(tiles: Sequence[SampleTile]) -> Iterator[tuple[SampleTile, ...]]:
    """Yield the tiles of one call after the other: the tiles of a call share all that tells satellites apart."""
    alike: dict[object, list[SampleTile]] = {}
    for tile in tiles:
        shape = np.load(tile.path, mmap_mode="r", allow_pickle=False).shape
        alike.setdefault((tile.bands, tile.gsd, tile.platform, shape), []).append(tile)
    for group in alike.values():
        for start in range(0, len(group), TILES_IN_A_CALL):
            yield tuple(group[start : start + TILES_IN_A_CALL])


def _image(tile: SampleTile) -> dict[str, JsonValue]:
    """Return a tile as the API takes it; what is not known of it is left out."""
    known: dict[str, JsonValue] = {
        "platform": tile.platform,
        "point": None if tile.point is None else [*tile.point],
        "timestamp": tile.timestamp_s,
    }
    return {
        "gsd": tile.gsd,
        "bands": [*tile.bands],
        "pixels": np.load(tile.path, allow_pickle=False).tolist(),
        **{name: value for name, value in known.items() if value is not None},
    }
