"""Jobs, of trainings and of generations: begun with a price and a script, told in the vendor's words."""

from dataclasses import dataclass

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.photogpt.books import take
from sandbox.photogpt.ids import job_id
from sandbox.settings import TERMINAL, Script
from sandbox.store import Row

TRAINING, GENERATION = "photogpt.training", "photogpt.generation"
KINDS = (TRAINING, GENERATION)
_WORDS = {"pending": "created", "cancelled": "failed"}


@dataclass(frozen=True)
class Job:
    """A job that is to begin."""

    kind: str
    model: Row
    script: Script
    credits: int


def add_job(tx: Connection, account: Account, job: Job, *, at_s: float) -> Row:
    """Begin a job and take its price.

    Raises:
        PhotogptError: The balance is short.
    """
    # Whatever engine the account has: nobody's likeness is learnt here, trainings have their life cycle alone.
    data = {"engine": "scripted", "script": job.script.model_dump(mode="json"), "updated_at": at_s}
    word = job.script.steps[0].status
    begun = "pending" if word in TERMINAL else word
    about = {"parent": job.model["id"], "name": job.model["name"], "status": begun}
    row = documents.add(tx, account, job.kind, id=job_id(), data=data, at_s=at_s, **about)
    return take(tx, account, row, job.credits, at_s=at_s)


def word_of(account: Account, job: Row) -> str:
    """Return the word a job's status is told with."""
    word = str(job["status"])
    return account.settings.photogpt.success_word if word == "completed" else _WORDS.get(word, word)
