"""How one account of the sandbox behaves: dialect, money, limits, engine and script."""

from typing import Literal

from pydantic import Field

from sandbox.bluesight.settings import BluesightSettings
from sandbox.jsontext import JsonObject
from sandbox.photogpt.settings import PhotogptSettings
from sandbox.replicate.settings import ReplicateSettings
from sandbox.setting import Setting

Dialect = Literal["v1", "v2", "both"]
Role = Literal["viewer", "member", "admin", "owner"]

Pipeline = Literal[
    "yolox", "sm_pytorch", "classification", "rfdetr_detection", "rfdetr_segmentation", "detectron2", "rfdetr_keypoint"
]

ROLES: tuple[Role, ...] = ("viewer", "member", "admin", "owner")
TERMINAL = frozenset({"completed", "failed", "cancelled"})
KEPT_REQUESTS = 100_000  # of the request log, the largest rate limit a vendor's plan has
DEFAULT_BALANCE = {"credits": 100_000, "micro_usd": 1_000_000_000}

_SHARED_PIPELINES: tuple[Pipeline, ...] = (
    "yolox",
    "sm_pytorch",
    "classification",
    "rfdetr_detection",
    "rfdetr_segmentation",
)
PIPELINES: dict[Dialect, tuple[Pipeline, ...]] = {
    "v1": (*_SHARED_PIPELINES, "detectron2"),
    "v2": (*_SHARED_PIPELINES, "rfdetr_keypoint"),
    "both": _SHARED_PIPELINES,
}
REQUESTABLE: tuple[Pipeline, ...] = (*_SHARED_PIPELINES, "detectron2")
"""Everything that can be trained here: what the default account offers, though no published client reads all of it."""
_V1_FORMATS = ("pictograph", "coco", "yolo", "pascal_voc", "cvat", "labelme", "csv")
EXPORT_FORMATS: dict[Dialect, tuple[str, ...]] = {
    "v1": _V1_FORMATS,
    "v2": (*_V1_FORMATS, "darwin", "yolo_obb", "yolo_pose", "dota", "datumaro"),
    "both": _V1_FORMATS,
}


class Step(Setting):
    """One stretch of a scripted run."""

    status: str
    """The word answered; words outside the vendor's list are allowed, to test what a client makes of them."""
    for_s: float = Field(default=0, ge=0)
    """Length in mode "time", before the speed factor."""
    for_looks: int = Field(default=1, ge=1)
    """Length in the modes "looks" and "manual"."""
    epochs: int | None = Field(default=None, ge=1)
    """Epochs run through during this step; the run's configured number when absent."""
    progress: int | None = Field(default=None, ge=0, le=100)
    """Fixed progress instead of the computed one (a run that hangs, or goes backwards)."""
    eta_seconds: int | None = None
    """Fixed estimate instead of the computed one."""
    metrics: JsonObject | None = None
    """Metrics answered during this step."""
    error_message: str | None = None
    """Message answered from this step on."""


def _default_steps() -> tuple[Step, ...]:
    return (Step(status="queued", for_s=0.2), Step(status="running", for_s=2), Step(status="completed"))


class Script(Setting):
    """What a scripted run goes through; a last step that is not terminal lasts for ever."""

    mode: Literal["time", "looks", "manual"] = "time"
    """What moves the run: the clock, each GET that shows it, or a control call."""
    speed: float = Field(default=1.0, gt=0)
    """Factor on the clock in mode "time"."""
    steps: tuple[Step, ...] = Field(default_factory=_default_steps, min_length=1)
    """The steps, in order."""
    eta_noise: float = Field(default=0.0, ge=0, lt=1)
    """Relative error of eta_seconds, the same on each replay."""
    fail_message: str = "CUDA out of memory. Tried to allocate 2.00 GiB"
    """error_message of a run whose script ends in failed."""
    metrics: JsonObject = Field(default_factory=lambda: {"mAP": 0.71, "mAP50": 0.9, "precision": 0.8})
    """Metrics of the finished run and its model."""
    gpu_minutes: int | None = Field(default=None, ge=0)
    """GPU minutes to bill; the planned minutes when absent."""
    model: Literal["auto", "tiny", "uploaded"] = "auto"
    """Weights served: a tiny generated graph, the file uploaded through the control API, or whichever there is."""


class AccountSettings(Setting):
    """Everything that can be chosen for an account; all but `billing` of a used account can be changed later."""

    dialect: Dialect = "both"
    """Paths, envelopes and error bodies: the old ones, today's, or the union both published clients read."""
    role: Role = "owner"
    """Role of the account's API key."""
    billing: Literal["credits", "micro_usd"] = "micro_usd"
    """Charged at create and refunded (credits), or charged once on success (micro_usd); fixed by the first entry."""
    engine: Literal["real", "scripted"] = "real"
    """Whether runs train on this machine or follow the script."""
    script: Script = Script()
    """The script of runs created from now on."""
    pipelines: tuple[Pipeline, ...] | None = None
    """Pipelines accepted; the dialect's own list when absent."""
    prices_per_minute: dict[str, int] | None = None
    """Price of a GPU minute by tier in the account's unit, for runs created from now on; built in when absent."""
    estimate_slugs: Literal["both", "per_minute", "plain"] = "both"
    """Which spelling of the training operation an estimate accepts."""
    budget_micro_usd: int = Field(default=0, ge=0)
    """Overage allowed below a balance of zero."""
    min_start_micro_usd: int = Field(default=2_000_000, ge=0)
    """Spendable money needed to start a run when billing in micro-USD."""
    min_images: int | None = Field(default=None, ge=0)
    """Smallest trainable export; 5 in dialect v1 and none otherwise when absent."""
    seconds_per_epoch: float = Field(default=30.0, gt=0)
    """GPU time of one epoch on an a10g, from which planned minutes follow."""
    gpu_seconds_per_second: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Time on an a10g that a second of real training here stands for, on the bill and towards the service's cap."""
    gpu_memory: Literal["emulated", "unlimited"] = "emulated"
    """Whether a run whose config needs more memory than its tier has fails as it would on the hosted GPU."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """What the real engine trains on; "auto" is a CUDA GPU where there is one."""
    rate_limit: int = Field(default=20_000, ge=1, le=KEPT_REQUESTS)
    """Requests allowed in a window."""
    rate_window_s: float = Field(default=3600.0, gt=0)
    """Length of the rate limit's sliding window."""
    create_status: Literal[200, 201] = 201
    """Status of a successful create."""
    not_ready_status: Literal[400, 409] = 400
    """Status of a download of a model that is not ready."""
    class_mapping: Literal["auto", "classes", "index"] = "auto"
    """Form of Model.class_mapping; "auto" is index in dialect v1 and classes otherwise."""
    model_delete: Literal["auto", "archive", "remove"] = "auto"
    """What deleting a model does; "auto" archives in dialect v1 and removes otherwise."""
    hash_headers: Literal["goog", "content-md5", "etag-md5", "none"] = "goog"
    """Where a storage answer carries the MD5 of the object."""
    signed_url_ttl_s: float = 3600.0
    """Life of a signed URL; zero or less gives URLs that are already expired."""
    export_pending_s: float = Field(default=0.0, ge=0)
    """Time a new export stays pending."""
    export_processing_s: float = Field(default=0.0, ge=0)
    """Time it is at least processing."""
    export_error: str | None = None
    """When set, exports fail with this message."""
    replicate: ReplicateSettings = ReplicateSettings()
    """Quirks of the emulated Replicate API."""
    bluesight: BluesightSettings = BluesightSettings()
    """Quirks of the emulated Bluesight API."""
    photogpt: PhotogptSettings = PhotogptSettings()
    """Quirks of the emulated PhotoGPT API."""

    @property
    def accepted_pipelines(self) -> tuple[Pipeline, ...]:
        """Pipelines a create accepts."""
        return PIPELINES[self.dialect] if self.pipelines is None else self.pipelines

    @property
    def smallest_export(self) -> int:
        """Images an export needs before a training is accepted."""
        if self.min_images is not None:
            return self.min_images
        return 5 if self.dialect == "v1" else 0
