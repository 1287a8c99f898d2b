"""Prepare a PhotoGPT training, free of charge: one model, and each picture in it once, whatever was interrupted."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from pipeline.errors import ErrorContext, NotFoundError, ProviderError, UnexpectedResponseError, is_retryable
from pipeline.local_requests import PhotogptRequest
from pipeline.models import TrainPlan
from pipeline.watch.polling import RETRY_AFTER_MOST_S
from providers.photogpt.images import Images, Upload
from providers.photogpt.models import Models
from providers.photogpt.notes import NoteBook
from providers.photogpt.pictures import Picture, read_portraits
from providers.photogpt.wire import FAILED_MODEL, NEW, READY, TRAINING, ModelWire
from providers.retry import Clock, with_context

logger = logging.getLogger(__name__)

_CREATES = 2
_LOOKS = 3
_ROUNDS = 12
"""Looks at what has arrived before preparing gives up for now; each upload without an answer takes one."""
_MADE_WITHIN = timedelta(minutes=10)
"""How far from the moment it was asked for a model may have been made, by the clock there."""


class _StartOverError(Exception):
    """The model cannot be brought into the state that is wanted; the sentence says why."""


@dataclass(frozen=True)
class Preparing:
    """What preparing works with."""

    models: Models
    images: Images
    book: NoteBook
    """What is remembered."""
    clock: Clock
    """The ``time`` module, or a fake."""
    wait_s: float
    """Seconds between two looks after a lost answer."""

    def prepare(self, plan: TrainPlan) -> dict[str, JsonValue]:
        """Return the model and its pictures, in the order of their names.

        Raises:
            ExportRejectedError: The pictures cannot be trained on.
            ProviderError: Never with ``context.outcome_unknown``: nothing that is done here is paid for.
        """
        pictures = read_portraits(plan)
        try:
            try:
                return self._prepared(plan, pictures)
            except _StartOverError as reason:
                logger.warning("%s; starting over with a new model, the old one stays at the provider", reason)
                self.book.change(model_id=None, known=None, pictures={}, sending=None)
                return self._prepared(plan, pictures)
        except _StartOverError as reason:
            message = f"{reason}, and so with a second model: look at both in the provider's console."
            raise UnexpectedResponseError(message, ErrorContext(operation="models.prepare")) from None
        except ProviderError as error:
            if not error.context.outcome_unknown:
                raise
            raise with_context(error, replace(error.context, outcome_unknown=False)) from error

    def _prepared(self, plan: TrainPlan, pictures: tuple[Picture, ...]) -> dict[str, JsonValue]:
        model = self._model(plan)
        if model.word not in {TRAINING, READY}:
            _Filling(self, model.id, pictures).fill()
        held = self.book.progress.pictures
        return {"model_id": model.id, "images": [held[each.key] for each in pictures if each.key in held]}

    def _model(self, plan: TrainPlan) -> ModelWire:
        """Return the training's own model, making it when there is none yet."""
        progress = self.book.progress
        if progress.model_id is not None:
            return self._noted(progress.model_id)
        if progress.known is not None and (found := self._made(plan)) is not None:
            return self._keep(found)
        return self._create(plan)

    def _noted(self, model_id: str) -> ModelWire:
        try:
            model = self.models.get(model_id)
        except NotFoundError as error:
            raise _StartOverError(f"model {model_id} is gone") from error
        if model.word in FAILED_MODEL:
            raise _StartOverError(f"model {model_id} is {model.status!r}")
        return model

    def _create(self, plan: TrainPlan, sendings: int = _CREATES) -> ModelWire:
        known = tuple(sorted(model.id for model in self.models.all()))
        self.book.change(known=known, asked_at_s=self.clock.time())
        try:
            return self._keep(self.models.create(_about(plan)))
        except ProviderError as error:
            if not error.context.outcome_unknown:
                raise
            if (found := self._look_for_made(plan)) is not None:
                return self._keep(found)
            if sendings <= 1:
                raise
            logger.warning("no model is there after a lost answer (%s)", error)
        return self._create(plan, sendings - 1)

    def _keep(self, model: ModelWire) -> ModelWire:
        self.book.change(model_id=model.id, known=None, pictures={}, sending=None)
        return model

    def _look_for_made(self, plan: TrainPlan) -> ModelWire | None:
        for look in range(_LOOKS):
            if look:
                self.clock.sleep(self.wait_s)
            if (found := self._made(plan)) is not None:
                return found
        return None

    def _made(self, plan: TrainPlan) -> ModelWire | None:
        """Return the model that was made although its answer was lost.

        Of several nameless ones none is taken: another process may have made one of them for another person, and an
        empty model too many costs nothing.
        """
        progress = self.book.progress
        asked_at = datetime.fromtimestamp(progress.asked_at_s, UTC)
        known = set(progress.known or ())
        fresh = [model for model in self.models.all() if model.id not in known and model.word == NEW]
        named = [model for model in fresh if model.name == plan.run_name]
        nameless = [
            model
            for model in fresh
            if model.name is None and (model.made_at is None or abs(model.made_at - asked_at) <= _MADE_WITHIN)
        ]
        empty = [model for model in named or nameless if not self.images.inputs(model.id)]
        if len(empty) > 1 and not named:
            logger.warning("%d empty models appeared at once: none of them is taken", len(empty))
            return None
        return max(empty, key=lambda model: (_moment(model), model.id), default=None)


class _Filling:
    """Brings a model's pictures to exactly those that are wanted."""

    def __init__(self, work: Preparing, model_id: str, pictures: tuple[Picture, ...]) -> None:
        self._work = work
        self._model_id = model_id
        self._wanted = {picture.key: picture for picture in pictures}
        self._deleted: set[str] = set()

    def fill(self) -> None:
        """Upload what is missing, one picture after another, and look: until the list shows what is wanted."""
        trouble: ProviderError | None = None
        for _ in range(_ROUNDS):
            held, untouched = self._reconcile()
            missing = [picture for key, picture in self._wanted.items() if key not in held]
            if untouched and not missing:
                return
            trouble = self._upload(missing)
            if trouble is not None:
                wait_s = max(self._work.wait_s, trouble.context.retry_after_s or 0.0)
                self._work.clock.sleep(min(wait_s, RETRY_AFTER_MOST_S))
        if trouble is not None:
            raise trouble
        raise _StartOverError(f"the pictures of model {self._model_id} do not stay as they were uploaded")

    def _upload(self, missing: list[Picture]) -> ProviderError | None:
        """Upload pictures until one gets no answer, or is put off; return why, for a look at what has arrived."""
        book = self._work.book
        for picture in missing:
            upload = Upload(picture.number, picture.format, picture.read())
            progress = book.change(sending=picture.key)
            try:
                image = self._work.images.upload(self._model_id, upload)
            except ProviderError as error:
                if not (error.context.outcome_unknown or is_retryable(error)):
                    raise
                logger.warning(
                    "picture %d of %d is not known to be there (%s)", picture.number, len(self._wanted), error
                )
                return error
            book.change(pictures={**progress.pictures, picture.key: image.id}, sending=None)
        return None

    def _reconcile(self) -> tuple[set[str], bool]:
        """Return the digests of the wanted pictures that are there, and whether there was nothing else to remove."""
        progress, images = self._work.book.progress, self._work.images
        listed = images.inputs(self._model_id)
        held = {
            key: image_id
            for key, image_id in progress.pictures.items()
            if key in self._wanted and (image_id in listed or images.exists(image_id))
        }
        ours = set(progress.pictures.values())
        unknown = [image_id for image_id in listed if image_id not in ours]
        if progress.sending in self._wanted and progress.sending not in held and len(unknown) == 1:
            held[progress.sending] = unknown[0]
        strays = [image_id for image_id in listed if image_id not in held.values()]
        for image_id in strays:
            self._remove(image_id)
        self._work.book.change(pictures=held, sending=None)
        return set(held), not strays

    def _remove(self, image_id: str) -> None:
        if image_id in self._deleted:
            raise _StartOverError(f"model {self._model_id} holds a picture nobody here knows, which cannot be removed")
        logger.warning("model %s holds picture %s, which does not belong there: removed", self._model_id, image_id)
        try:
            self._work.images.delete(image_id)
        except ProviderError as error:
            if is_retryable(error):
                raise
            raise _StartOverError(f"a stray picture of model {self._model_id} cannot be removed ({error})") from error
        self._deleted.add(image_id)


def _about(plan: TrainPlan) -> dict[str, JsonValue]:
    request = plan.asked_of(PhotogptRequest)
    about: dict[str, JsonValue] = {"name": plan.run_name, "age": request.age, "gender": request.gender}
    more = {"ethnicity": request.ethnicity, "eyeColor": request.eye_color}
    return about | {key: value for key, value in more.items() if value is not None}


def _moment(model: ModelWire) -> datetime:
    return model.made_at or datetime.min.replace(tzinfo=UTC)
