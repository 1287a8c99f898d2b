"""How PhotoGPT's trainings and generations go through their scripts, and what their ends leave behind."""

from collections.abc import Mapping

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.lifecycle import Outcome, Scene, Scripted, end
from sandbox.photogpt.books import give_back
from sandbox.photogpt.generation import discard, show
from sandbox.photogpt.jobs import GENERATION, TRAINING
from sandbox.store import Row


class _Job:
    """What both kinds share: whoever does not get what he paid for gets his credits back."""

    endings = frozenset({"error", "canceled", "deleted"})

    def end(self, scene: Scene) -> Outcome:
        """Settle the job's pictures and its price."""
        word = scene.position.step.status
        if word == "completed":
            self.succeed(scene)
            return Outcome(word)
        self.fail(scene)
        give_back(scene.tx, scene.account, scene.row, at_s=scene.at_s)
        return Outcome(word, {"error": scene.position.step.error_message or scene.script.fail_message})

    def moved(self, scene: Scene) -> None:
        """Remember when the status changed."""
        documents.change(scene.tx, scene.row, data={"updated_at": scene.at_s})

    def succeed(self, scene: Scene) -> None:
        """Hand over what the job was for; a training has nothing but its status."""

    def fail(self, scene: Scene) -> None:
        """Take away what it would have handed over."""


class _Generation(_Job):
    """A generation shows its images at its end, or forgets them."""

    def succeed(self, scene: Scene) -> None:
        """Make the images known."""
        show(scene.tx, scene.account, scene.row, at_s=scene.at_s)

    def fail(self, scene: Scene) -> None:
        """Forget the images."""
        discard(scene.sandbox, scene.tx, scene.account, scene.row)


def fail_generations(tx: Connection, account: Account, model: Row, error: str, *, at_s: float) -> None:
    """Fail what is being generated with a model, and give the credits back; the images are the caller's to forget."""
    for job in documents.listed(tx, account, GENERATION, parent=model["id"]):
        if job["completed_at"] is None:
            failed = end(tx, account, job, Outcome("failed", {"error": error, "updated_at": at_s}), at_s=at_s)
            give_back(tx, account, failed, at_s=at_s)


SCRIPTED: Mapping[str, Scripted] = {TRAINING: _Job(), GENERATION: _Generation()}
