"""PhotoGPT's jobs, generations and trainings alike: which of them are about a model.

The list shows no model and the detail no price, so both are read. That a job is not found proves nothing.
Source: https://docs.photogptai.com, checked 2026-11-20.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.errors import NotFoundError, ProviderError
from providers.calls import ApiRequest
from providers.http import path_segment
from providers.photogpt.session import PhotogptSession
from providers.photogpt.wire import DONE_JOB, FAILED_JOB, JobItemWire, JobWire
from providers.retry import Clock
from providers.wire import read_wire

logger = logging.getLogger(__name__)

MOST_DETAILS = 200
"""Jobs looked at one by one in a window; the newest count."""
_MARGIN = timedelta(minutes=2)  # clocks differ
_LONGEST = timedelta(days=7) - timedelta(minutes=1)
_MOST_PAGES = 200
_NO_LIST = frozenset({404, 405, 501})


@dataclass(frozen=True)
class Window:
    """A stretch of time; the vendor takes seven days at most, of which the last count."""

    since: datetime | None = None
    """Its begin; none takes a day."""
    until: datetime | None = None
    """Its end; none is now."""


@dataclass(frozen=True)
class Job:
    """A job about a model, from the list and from a look at it alone."""

    id: str
    word: str
    """Its status, in lower case."""
    credits: int | None
    """What it cost, where the list says so."""
    error: str | None
    """Why it failed."""
    has_images: bool
    """Whether it shows pictures: only a generation does."""
    created_at: datetime | None

    @property
    def has_failed(self) -> bool:
        """True when it ended without what it was begun for."""
        return self.word in FAILED_JOB

    @property
    def is_done(self) -> bool:
        """True when it gave what it was begun for."""
        return self.word in DONE_JOB

    @property
    def is_over(self) -> bool:
        """True when it cannot change any more."""
        return self.has_failed or self.is_done


class Jobs:
    """The account's jobs."""

    def __init__(self, session: PhotogptSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._strangers: set[str] = set()

    def get(self, job_id: str) -> JobWire:
        """Look at one."""
        path = f"/jobs/{path_segment(job_id)}"
        return self._session.read(ApiRequest("jobs.get", "GET", path, repeatable=True), JobWire)

    def of_model(self, model_id: str, window: Window) -> tuple[Job, ...]:
        """Return the jobs of a window that name a model, the newest first."""
        found = []
        items = sorted(self.items(window), key=lambda item: _moment(item.created_at), reverse=True)
        unknown = [item for item in items if item.id not in self._strangers]
        if len(unknown) > MOST_DETAILS:
            logger.warning("only the newest %d of %d jobs are looked at", MOST_DETAILS, len(unknown))
        for item in unknown[:MOST_DETAILS]:
            detail = self._detail(item.id)
            if detail is None or detail.model_id is None:
                continue
            if detail.model_id == model_id:
                found.append(_joined(item, detail))
            else:
                self._strangers.add(item.id)  # a job never changes its model
        return tuple(found)

    def credits_of(self, job_id: str, window: Window) -> int | None:
        """Return what a job cost; none where the list does not say it or cannot be read."""
        try:
            return next((item.credits for item in self.items(window) if item.id == job_id), None)
        except ProviderError as error:
            logger.info("what job %s cost could not be read: %s", job_id, error)
            return None

    def items(self, window: Window) -> tuple[JobItemWire, ...]:
        """Return every job of a window; none where the server has no such list."""
        try:
            return tuple(self._iter_items(window))
        except ProviderError as error:
            if error.context.status_code not in _NO_LIST:
                raise
            return ()

    def _iter_items(self, window: Window) -> Iterator[JobItemWire]:
        begin, end = self._bounds(window)
        tokens: set[str] = set()
        params: tuple[tuple[str, str | int], ...] = (("start", _rfc3339(begin)), ("end", _rfc3339(end)))
        token: tuple[tuple[str, str | int], ...] = ()
        for _ in range(_MOST_PAGES):
            opened = self._session.call(ApiRequest("jobs.list", "GET", "/jobs", params + token, repeatable=True))
            result = opened.result if isinstance(opened.result, dict) else {"jobs": opened.result}
            entries = result.get("jobs")
            if not isinstance(entries, list):
                raise opened.reply.unreadable("expected a list under 'jobs'")
            yield from (read_wire(opened.reply, entry, JobItemWire) for entry in entries)
            following = result.get("nextPageToken")
            if not isinstance(following, str) or not following or following in tokens:
                return
            tokens.add(following)
            token = (("pageToken", following),)

    def _bounds(self, window: Window) -> tuple[datetime, datetime]:
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        end = (window.until or now) + _MARGIN
        begin = (window.since or end - timedelta(days=1)) - _MARGIN
        return min(max(begin, end - _LONGEST), end), end

    def _detail(self, job_id: str) -> JobWire | None:
        try:
            return self.get(job_id)
        except NotFoundError:
            return None


def training_among(jobs: tuple[Job, ...], *, done: bool = False) -> Job | None:
    """Return the newest job that can be a model's training, or the one that made the model what it is.

    The API does not say what a job is; one that shows pictures is a generation, and a generation that is done does.
    """
    able = [job for job in jobs if not job.has_images and (not done or job.is_done)]
    return able[0] if able else None


def generations_among(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Return the jobs that made pictures with a model that is trained, or are about to."""
    return tuple(job for job in jobs if job.has_images or not job.is_over)


def _joined(item: JobItemWire, detail: JobWire) -> Job:
    return Job(
        id=item.id,
        word=detail.word or item.word,
        credits=item.credits,
        error=item.error or detail.error,
        has_images=bool(detail.images),
        created_at=item.created_at or detail.created_at,
    )


def _moment(moment: datetime | None) -> datetime:
    return moment or datetime.min.replace(tzinfo=UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
