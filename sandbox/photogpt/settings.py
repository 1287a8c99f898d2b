"""What can be chosen about the emulated PhotoGPT: its undocumented sides, its prices and its limits."""

from typing import Literal

from pydantic import Field

from sandbox.setting import Setting

SecondTrigger = Literal["conflict", "limit", "invalid", "accepted", "again"]


class PhotogptSettings(Setting):
    """How the PhotoGPT dialect behaves towards one account."""

    firewall: bool = True
    """Whether default user agents of Python clients get a 403 that is no JSON."""
    missing_version_status: int | None = Field(default=400, ge=400, le=499)
    """Status of a request without `API-Version: 1`; null lets it through."""
    required_fields: tuple[Literal["name", "age", "gender"], ...] = ("name", "age", "gender")
    """Fields a new model needs."""
    shows_name: bool = False
    """Whether reading models shows their name, age and gender; creating never does."""
    models_page_size: int | None = Field(default=None, ge=1)
    """Length of a page of models; null answers all of them, without page fields."""
    deleted_models: Literal["shown", "gone"] = "shown"
    """Whether a deleted model reads as `deleted` or answers 404."""
    foreign_status: Literal[403, 404] = 403
    """Status for a model or picture of another account."""
    plan_allows_training: bool = True
    """Whether the account's plan allows a training; otherwise the trigger answers 403."""
    second_trigger: SecondTrigger = "conflict"
    """A trigger while the model trains: 409, 429, 400, accepted without effect, or another training that is billed."""
    trained_trigger: SecondTrigger = "conflict"
    """A trigger of a model that is ready, in the same words."""
    failed_training: Literal["failed", "new"] = "failed"
    """Status of a model after its training failed."""
    max_trainings: int | None = Field(default=10, ge=1)
    """Trainings at once; one more answers 429. Null sets no limit."""
    keeps_bytes: bool = True
    """Whether a picture's address gives back the bytes that were uploaded; otherwise they are encoded anew."""
    jobs_show_trainings: bool = True
    """Whether the job listing shows trainings."""
    training_jobs_name_model: bool = True
    """Whether the detail of a training job carries the model's id."""
    success_word: Literal["success", "completed"] = "success"
    """Status of a job that succeeded."""
    jobs_page_size: int = Field(default=20, ge=1)
    """Jobs on a page of the listing."""
    training_credits: int = Field(default=500, ge=0)
    """Price of a training."""
    image_credits: int = Field(default=10, ge=0)
    """Price of a generated or upscaled image."""
    insufficient_status: int = Field(default=402, ge=200, le=499)
    """Status of the refusal for want of credits; it may even be 200."""
    refused_words: tuple[str, ...] = ()
    """Words that have a prompt refused with 400."""
    generation_mode: Literal["time", "looks"] = "time"
    """What moves a generation: the clock, or each GET of the job."""
    generation_queued_s: float = Field(default=0.1, ge=0)
    """Time a generation is queued; one look in mode "looks"."""
    generation_running_s: float = Field(default=0.3, ge=0)
    """Time it runs; one look in mode "looks"."""
    generation_error: str | None = None
    """When set, generations fail with this message."""
