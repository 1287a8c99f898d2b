"""What of Pictograph is emulated, and how each part of it is known."""

from sandbox.provenance import Behaviour, Provenance, Route

_API = "/api/v1/developer"


def _api(method: str, path: str, dialects: str, *known: Provenance, note: str = "") -> Route:
    return Route(method, _API + path, dialects, known, note)


ROUTES: tuple[Route, ...] = (
    _api("GET", "/credits/balance", "v1 v2", "wire"),
    _api("GET", "/credits/history", "v1 v2", "wire"),
    _api("GET", "/credits/estimate", "v1 v2", "wire", "seed", note="both spellings of the training operation"),
    _api("GET", "/credits/usage-by-operation", "v2", "wire"),
    _api("GET", "/datasets/", "v1 v2", "wire", note="newest first [guess]; cap 1 000, 10 000 embedded images [sdk]"),
    _api("GET", "/datasets/by-name/{name}", "v1", "wire"),
    _api("GET", "/datasets/by-name/{name}/download", "v1", "wire", note="image links; no annotation links"),
    _api("GET", "/datasets/{ref}", "v1 v2", "wire", note="v1 takes ids alone"),
    _api("GET", "/datasets/{ref}/download", "v2", "wire", note="image links; no annotation links"),
    _api("POST", "/exports/", "v1 v2", "wire", note="format pictograph only; organize_by_split has no effect"),
    _api("GET", "/exports/", "v1 v2", "wire", note="newest first [guess]; cap 1 000 [guess]"),
    _api("POST", "/exports/bulk-delete", "v2", "wire", note="1 000 ids [guess]"),
    _api("GET", "/exports/{ref}", "v2", "wire"),
    _api(
        "GET",
        "/exports/{ref}/download",
        "v1 v2",
        "wire",
        note="in v1 an export that is called download",
    ),
    _api("GET", "/exports/{dataset}/{ref}", "v1", "wire"),
    _api("GET", "/exports/{dataset}/{ref}/download", "v1", "wire"),
    _api("DELETE", "/exports/{ref}", "v2", "wire"),
    _api("DELETE", "/exports/{dataset}/{ref}", "v1", "wire"),
    _api("POST", "/training/", "v1 v2", "wire"),
    _api("POST", "/training/quote", "v2", "wire"),
    _api("GET", "/training/", "v1 v2", "wire", note="newest first [guess]; limit above 100 answers 422 [sdk]"),
    _api("GET", "/training/{ref}", "v1 v2", "wire", note="v1 takes ids alone; a name means the most recent run [sdk]"),
    _api("POST", "/training/bulk-cancel", "v2", "wire", note="1 000 ids, each counted once [guess]"),
    _api("POST", "/training/{ref}/cancel", "v1 v2", "wire"),
    _api("GET", "/models/", "v1 v2", "wire", note="newest first [guess]; cap 100 [sdk]"),
    _api("POST", "/models/bulk-delete", "v2", "wire", note="1 000 ids [guess]"),
    _api("GET", "/models/{ref}", "v1 v2", "wire", note="v1 takes ids alone"),
    _api("GET", "/models/{ref}/download", "v1 v2", "wire", note="onnx in fp32; other formats answer 409 [sdk]"),
    _api("GET", "/models/{ref}/versions", "v2", "wire"),
    _api("GET", "/models/{ref}/files", "v2", "wire", note="weights and config.json"),
    _api("GET", "/models/{ref}/files/download", "v2", "wire"),
    _api("PATCH", "/models/{ref}/current-version", "v2", "wire"),
    _api("DELETE", "/models/{ref}", "v1 v2", "wire"),
    _api("GET", "/jobs", "v2", "wire", note="trainings and exports"),
    _api("GET", "/jobs/{ref}", "v2", "wire"),
    _api("GET", "/notifications", "v2", "wire"),
    Route("GET", "/storage/{account_id}/{key:path}", "v1 v2", ("sdk", "guess"), "signed links: ours in form"),
    Route("HEAD", "/storage/{account_id}/{key:path}", "v1 v2", ("guess",)),
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("transport", "X-API-Key only, a Bearer token is no key; X-Request-Id on every answer", ("wire", "doc")),
    Behaviour("transport", "X-Train-Pipeline-Sandbox: 1 on every answer is ours, the vendor has none", ("guess",)),
    Behaviour("transport", "a missing trailing slash answers 307, as FastAPI does", ("wire",)),
    Behaviour("transport", "an extra trailing slash answers 307 too", ("guess",)),
    Behaviour("transport", "a create answers 201, or 200 by setting", ("guess",)),
    Behaviour("transport", "a name is one path segment, its slashes encoded", ("wire",)),
    Behaviour("envelopes", "v1 resource key, v2 data and pagination, both: the union, read by both clients", ("wire",)),
    Behaviour("errors", "v1 {detail}, v2 and both {error: {code, message, details}, detail}", ("wire", "sdk")),
    Behaviour(
        "errors", "402 carries required and remaining in the account's unit, nested as each dialect reads", ("sdk",)
    ),
    Behaviour("errors", "objects of other organisations answer 404", ("sdk",)),
    Behaviour("errors", "a key in a v1 account that is no id answers 422", ("guess",)),
    Behaviour("errors", "422 for a config with NaN, Infinity, half a surrogate pair, or over 100 levels", ("guess",)),
    Behaviour(
        "roles", "viewer reads and quotes, member creates and cancels, admin deletes and promotes", ("sdk", "doc")
    ),
    Behaviour("roles", "deleting an export needs admin", ("sdk",)),
    Behaviour(
        "rate limit", "sliding window per key and hour, X-RateLimit headers, 429 with Retry-After", ("doc", "sdk")
    ),
    Behaviour("rate limit", "requests refused with 429, and downloads from storage, do not count", ("guess",)),
    Behaviour("idempotency", "a key replays the stored answer for 24 hours", ("sdk",)),
    Behaviour(
        "idempotency", "only successful answers are stored; the same key with another body answers 409", ("guess",)
    ),
    Behaviour("credits", "v1: 10, 60, 120 credits a minute (a10g, a100, h100)", ("seed",)),
    Behaviour("credits", "v2: 22 917 and 82 292 micro-USD a minute (a10g, h100)", ("sdk",)),
    Behaviour("credits", "v2: 45 833 micro-USD a minute (a100)", ("guess",)),
    Behaviour(
        "credits", "1 credit is 10 000 micro-USD both ways; prices in credits round up, what is left down", ("guess",)
    ),
    Behaviour("credits", "prices of sam3, image_inference and inference_t4", ("guess",)),
    Behaviour("credits", "usage by operation: trainings alone, a refund taken off what it refunds", ("guess",)),
    Behaviour("credits", "an unknown operation answers 400", ("sdk",)),
    Behaviour(
        "billing",
        "credits: charged at create from epochs x tier, the rest refunded as training_refund_<gpu>",
        ("seed",),
    ),
    Behaviour(
        "billing", "credits: a failed run is refunded in full, a cancelled one pays for the epochs it ran", ("guess",)
    ),
    Behaviour("billing", "micro_usd: charged once, on success; a start needs 2 000 000", ("sdk",)),
    Behaviour("billing", "planned minutes: 30 s an epoch on a10g, 2.5 and 4 times faster on a100 and h100", ("guess",)),
    Behaviour("billing", "real engine: begun minutes of training time here x a setting / the tier's speed", ("guess",)),
    Behaviour("exports", "pending, processing, completed or failed; built in the background", ("sdk",)),
    Behaviour("exports", "status_filter with a word that is no stage completes with no image", ("sdk",)),
    Behaviour("exports", "a name is unique in its dataset, a second one answers 409", ("guess",)),
    Behaviour("exports", "a cold dataset answers 409 dataset_cold", ("sdk",)),
    Behaviour("exports", "layout of the ZIP", ("guess",)),
    Behaviour("exports", "expires_at is 30 days after created_at, and nothing expires", ("guess",)),
    Behaviour("exports", "download of one that is not completed answers 400", ("guess",)),
    Behaviour("exports", "a deleted one is gone from storage at once; a begun training keeps it", ("guess",)),
    Behaviour("datasets", "classes have the type of their labels: bbox, polygon or tag", ("sdk", "guess")),
    Behaviour("training", "an export that is not completed answers 400 naming its status", ("sdk",)),
    Behaviour("training", "fewer than 5 images are refused in v1", ("seed",)),
    Behaviour("training", "no smallest export in v2", ("sdk",)),
    Behaviour("training", "too few images answer 422", ("guess",)),
    Behaviour("training", "a run may train for 7 200 s", ("sdk",)),
    Behaviour(
        "training", "a run that trains longer fails; the real engine alone keeps to it, in billed time", ("guess",)
    ),
    Behaviour("training", "warning classes_not_trained, with no_training_data and not_in_train_split", ("sdk",)),
    Behaviour(
        "training",
        "warnings images_left_out, image_size_rounded, metric_not_measured, shapes_without_polygon, unknown_config_key",
        ("guess",),
    ),
    Behaviour("training", "quote: deleted_images is always 0", ("guess",)),
    Behaviour("training", "quote: fits, by tier too, is null for yolox: the vendor has no estimate of it", ("sdk",)),
    Behaviour("training", "quote: recommended_gpu_type is what auto takes, gpu_autoselect the decision", ("sdk",)),
    Behaviour("training", "quote: form of gpu_autoselect, the same in the config of a run made with auto", ("guess",)),
    Behaviour("training", "an export with no images, or without their files, fails in the worker", ("sdk", "guess")),
    Behaviour(
        "training",
        "v1 knows detectron2, v2 rfdetr_keypoint, both neither, or as set; runs of others are not shown",
        ("wire", "guess"),
    ),
    Behaviour(
        "training", "gpu_type auto takes the cheapest tier with enough memory; v1 refuses the word", ("wire", "sdk")
    ),
    Behaviour("training", "auto takes the largest tier where none fits; it has our estimate for yolox too", ("guess",)),
    Behaviour("training", "a10g 24, a100 40, h100 80 GiB; the memory a config needs: `sandbox/memory.py`", ("guess",)),
    Behaviour("training", "an absent batch_size is the trainers' default here; the service tunes its own", ("guess",)),
    Behaviour(
        "training",
        "a run too large for its GPU fails with CUDA out of memory in its worker and is free",
        ("sdk",),
    ),
    Behaviour("training", "the error after `CUDA out of memory. Tried to allocate`, and when it comes", ("guess",)),
    Behaviour("training", "model_size: the words of yolox and RF-DETR", ("sdk",)),
    Behaviour("training", "model_size: nano to large for the others; another word fails the run", ("guess",)),
    Behaviour("training", "cancel of an ended run answers 400", ("sdk",)),
    Behaviour("training", "a downloaded config.json is unwrapped, another pipeline's answers 400", ("sdk",)),
    Behaviour("training", "config.epochs outside 1 to 10 000 answers 422; 50 when absent and scripted", ("guess",)),
    Behaviour("training", "real engine: every pipeline but rfdetr_keypoint, which answers 422", ("guess",)),
    Behaviour(
        "models",
        "status training while the run trains, then ready or failed; model_id on the run at the end",
        ("seed", "sdk"),
    ),
    Behaviour("models", "download of a model that is not ready: 400, or 409 by setting", ("sdk", "seed")),
    Behaviour("models", "delete archives in v1 and removes in v2, or by setting", ("seed", "sdk")),
    Behaviour("models", "removed ones leave storage later: here at the next start", ("sdk", "guess")),
    Behaviour("models", "config.json: head _pictograph with pipeline and schema_version, block training", ("sdk",)),
    Behaviour("models", "class_mapping by index in v1 and as a list in v2, or by setting", ("seed", "sdk")),
    Behaviour("storage", "signed for 60 minutes, no key needed; expired answers 403 with XML", ("sdk", "guess")),
    Behaviour("storage", "Range and If-Range, 206 and 416, ETag, x-goog-hash with md5 (no crc32c)", ("guess",)),
    Behaviour(
        "jobs", "active, finished or all; a pending run reads as queued; the newest 1 000 of a filter", ("sdk", "guess")
    ),
    Behaviour("webhooks", "not emulated: the vendor has none for trainings", ("sdk",)),
)
