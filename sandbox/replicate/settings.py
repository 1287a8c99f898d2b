"""What can be switched in the emulated Replicate API."""

from typing import Literal

from pydantic import Field, field_validator

from sandbox.setting import Setting

Event = Literal["start", "output", "logs", "completed"]


class ReplicateSettings(Setting):
    """Quirks of the emulated Replicate API; the defaults are what its clients see on a usual day."""

    username: str = "sandbox-user"
    """Owner of the account's models."""
    trainer_hardware: str = "gpu-t4"
    """What the trainer runs on, which is what a second of training costs."""
    min_balance_micro_usd: int = Field(default=1, ge=0)
    """Spendable money without which a create answers 402."""
    seconds_per_look: float = Field(default=1.0, gt=0)
    """Billed time that a step of a script by looks, or by hand, stands for."""
    hidden_s: float = Field(default=0.0, ge=0)
    """How long a new training or prediction answers 404 and is in no list."""
    substituted_version: bool = False
    """Whether a training names another trainer version than was asked for."""
    package_fails: bool = False
    """Whether trainings fail after their logs are complete, as when the provider cannot make the image."""
    retention_s: float = Field(default=3600.0, ge=0)
    """How long input, output, files and logs of a finished training or prediction are kept."""
    training_as_prediction_s: float = Field(default=1800.0, ge=0)
    """How long after its create a training is found under /v1/predictions too."""
    page_size: int = Field(default=100, ge=1, le=100)
    """Rows on a page of a list."""
    next_base_url: str | None = None
    """Scheme and host of the links to other pages; the one asked when absent."""
    weights: Literal["tar", "tar.gz", "zip", "onnx", "no_onnx"] = "tar"
    """What a training hands over; no_onnx is a tar without a model."""
    weights_name: str | None = Field(default=None, pattern=r"^[\w.-]+$", max_length=100)
    """File name of the weights; one that suits them when absent."""
    output: Literal["object", "url", "list"] = "object"
    """Form of a training's output: version and weights, the weights' URL alone, or a list of the object."""
    max_file_bytes: int = Field(default=100_000_000, ge=0)
    """Largest upload."""
    file_ttl_s: float = Field(default=86_400.0, ge=0)
    """Life of an uploaded file."""
    boot_s: float = Field(default=0.0, ge=0)
    """How long a prediction waits for its model to boot; billed, as on private models."""
    sync_status: Literal["succeeded", "processing"] = "succeeded"
    """What a prediction that was waited for says although its output is there."""
    predictions_per_minute: int = Field(default=600, ge=1)
    """Rate limit on creating predictions."""
    requests_per_minute: int = Field(default=3000, ge=1)
    """Rate limit on everything else."""
    webhook_copies: int = Field(default=1, ge=1, le=10)
    """How often each webhook is delivered, under the same id."""
    webhook_delay_s: float = Field(default=0.0, ge=0)
    """How late webhooks are delivered."""
    webhook_retry_s: float = Field(default=1.0, gt=0)
    """Pause before the first re-delivery of a terminal webhook; each later one is twice as long."""
    webhook_reorder: bool = False
    """Whether webhooks of a running training are delivered after the terminal one."""
    webhook_drop: tuple[Event, ...] = ()
    """Webhooks that are never delivered."""

    @field_validator("weights_name")
    @classmethod
    def _name_leads_nowhere_else(cls, name: str | None) -> str | None:
        if name is not None and (name == "." or ".." in name):
            raise ValueError("weights_name is a file's name: it cannot be a dot or hold two in a row")
        return name
