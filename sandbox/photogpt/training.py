"""Triggering a training: what refuses it, what it costs, and what a second trigger does."""

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.photogpt.errors import PhotogptError
from sandbox.photogpt.images import MOST_PICTURES, images_of
from sandbox.photogpt.jobs import TRAINING, Job, add_job
from sandbox.photogpt.models import is_training, latest_training
from sandbox.store import Row

FEWEST_PICTURES = 12


def trigger(tx: Connection, account: Account, model: Row, *, at_s: float) -> None:
    """Start the training of a model, or leave it as it is where the account's settings accept a needless trigger.

    Raises:
        PhotogptError: The plan, the pictures, the trainings under way, the model's state or the balance forbid it.
    """
    settings = account.settings.photogpt
    if not settings.plan_allows_training:
        raise PhotogptError(403, "your plan does not include model training")
    if not _is_to_begin(account, latest_training(tx, account, model)):
        return
    count = len(images_of(tx, account, model["id"], ["modelInput"]))
    if not FEWEST_PICTURES <= count <= MOST_PICTURES:
        needed = f"{FEWEST_PICTURES}-{MOST_PICTURES}"
        raise PhotogptError(400, f"training needs {needed} images, the model has {count}", "image_count")
    running = [job for job in documents.listed(tx, account, TRAINING) if job["completed_at"] is None]
    if settings.max_trainings is not None and len(running) >= settings.max_trainings:
        raise PhotogptError(429, "too many trainings are running")
    add_job(tx, account, Job(TRAINING, model, account.settings.script, settings.training_credits), at_s=at_s)


def _is_to_begin(account: Account, training: Row | None) -> bool:
    """Whether a trigger starts a training in this state of the model, or is accepted without effect."""
    if training is None or (training["completed_at"] is not None and training["status"] != "completed"):
        return True
    settings = account.settings.photogpt
    rule = settings.second_trigger if is_training(training) else settings.trained_trigger
    state = "already training" if is_training(training) else "already trained"
    statuses = {"conflict": 409, "limit": 429, "invalid": 400}
    if rule in statuses:
        raise PhotogptError(statuses[rule], f"the model is {state}")
    return rule == "again"
