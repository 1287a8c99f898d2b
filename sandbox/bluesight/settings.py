"""What can be switched in the emulated Bluesight API."""

from typing import Literal

from sandbox.setting import Setting

Skippable = Literal["queued", "downloading_files", "validating_files", "running"]


class BluesightSettings(Setting):
    """Quirks of the emulated Bluesight API; the defaults are what its clients see on a usual day."""

    blocks_while_training: Literal["real", "always", "never"] = "real"
    """Whose trainings hold up every request of the account until they end, as the vendor's do: those on this machine,
    scripted ones too (not those moved by looks, which would never end), or none. Scripted ones do not hold up by
    default, because a client that waits sees no status but the last, and takes as long as the script."""
    cancel: Literal["advisory", "final"] = "advisory"
    """Whether a cancelled job trains on and overwrites its status, as the vendor's do, or is ended."""
    shows_queued: bool = False
    """Whether a job that waits says queued, a word of the vendor's list that its published server never writes."""
    missed_statuses: tuple[Skippable, ...] = ()
    """Words that no look catches: the one before lasts until the one after."""
    echoes_hyperparameters: bool = True
    """Whether a job shows the hyperparameters it was sent; they are used either way."""
    model_ids: Literal["plain", "with_task"] = "plain"
    """Form of new models' ids: model-xxxxxxxx, or the older model:<task>-xxxxxxxx."""
    model_delay_s: float = 0.0
    """Time after a job succeeded in which its model still answers 404."""
    classification_inference: Literal["works", "broken"] = "works"
    """Whether inference with classification models works; the vendor's did not for some months."""
    storage: Literal["works", "broken"] = "works"
    """Whether files and models can be stored and removed; a broken one answers 500."""
    truncates_downloads: bool = False
    """Whether a job that reads a file for the first time keeps half of it, for this job and all later ones."""
