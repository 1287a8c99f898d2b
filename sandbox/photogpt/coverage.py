"""What of PhotoGPT is emulated, and how each part of it is known; what a third party noted is called a guess."""

from sandbox.provenance import Behaviour, Provenance, Route

_PICTURE = "/storage/{account_id}/photogpt/{image_id}/{file_name}"


def _api(method: str, path: str, *known: Provenance, note: str = "") -> Route:
    return Route(method, f"/api{path}", "", known, note)


ROUTES: tuple[Route, ...] = (
    _api("GET", "/ping", "doc", note="no result"),
    _api("POST", "/models", "doc", note="an update when it has an id"),
    _api("GET", "/models", "doc", note="newest first [guess]; pages by setting [guess]"),
    _api("GET", "/models/{ref}", "doc"),
    _api("GET", "/models/{ref}/train", "doc", "seed", note="a GET with an effect"),
    _api("DELETE", "/models/{ref}", "doc", note="its result [guess]"),
    _api("GET", "/models/{ref}/images", "doc", note="oldest first, pages from 1, 100 at most [guess]"),
    _api("POST", "/images/upload", "doc", "seed"),
    _api("GET", "/images/{ref}", "doc"),
    _api("DELETE", "/images/{ref}", "guess"),
    _api("POST", "/images/generation", "doc", note="models of one's own alone"),
    _api("POST", "/images/upscaling", "doc", note="twice the size [guess]"),
    _api("GET", "/jobs", "doc", note="newest first, 20 on a page or as set [guess]"),
    _api("GET", "/jobs/{ref}", "doc"),
    _api("GET", "/presets", "doc", note="its words and their form [guess]"),
    Route("GET", _PICTURE, "", ("guess",), "a picture, for whoever holds its address; does not expire"),
    Route("HEAD", _PICTURE, "", ("guess",)),
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("transport", "Authorization: Bearer; 401 without a good key", ("doc",)),
    Behaviour("transport", "without API-Version: 1 a version error", ("doc",)),
    Behaviour("transport", "the version error is a 400, another status or none by setting", ("guess",)),
    Behaviour(
        "transport", "user agents of python-httpx and Python-urllib get 403 error code: 1010, no JSON", ("guess",)
    ),
    Behaviour("envelope", "status OK with result; status NOK with message, err and result null", ("doc",)),
    Behaviour("envelope", "the words in err; bodies that do not fit answer 400", ("guess",)),
    Behaviour("envelope", "modelID in requests and images, modelId and jobId in jobs", ("doc",)),
    Behaviour("errors", "409 for a picture or model changed or deleted while it trains", ("guess",)),
    Behaviour("errors", "models and pictures of other accounts answer 403, or 404 by setting", ("guess",)),
    Behaviour("rate limit", "429 without headers; the limit is the account's setting", ("guess",)),
    Behaviour("models", "ids are UUIDs of version 7", ("doc",)),
    Behaviour("models", "the answer of a create has id, status, modelType, createdAt and updatedAt", ("doc",)),
    Behaviour("models", "list and read show name, age and gender by setting", ("guess",)),
    Behaviour("models", "name, age and gender are needed, or as set; an id that is unknown answers 404", ("guess",)),
    Behaviour("models", "new, training, ready, deleted; other words by script", ("doc", "seed")),
    Behaviour("models", "failed after a failed training, or new by setting", ("guess",)),
    Behaviour("models", "a deleted one reads as deleted, or answers 404 by setting; its pictures are gone", ("guess",)),
    Behaviour("models", "deleting one fails what is being generated with it", ("guess",)),
    Behaviour("pictures", "part file and part data, a text field or JSON; types modelInput, auxiliaryType", ("doc",)),
    Behaviour("pictures", "jpg, jpeg, webp, png, heic; 20 MB a request; 20 of a type in a model", ("doc", "seed")),
    Behaviour("pictures", "formats are read from the content; what is over a limit answers 400", ("guess",)),
    Behaviour("pictures", "no more than 40 megapixels", ("guess",)),
    Behaviour("pictures", "imageType all, input, output, auxiliaryType; page and pageSize beside the result", ("doc",)),
    Behaviour("pictures", "an address gives back the uploaded bytes, or a new encoding of them by setting", ("guess",)),
    Behaviour("training", "200 Training triggered; 400 outside 12-20 pictures, 429 when too many run", ("doc", "seed")),
    Behaviour("training", "ten at once, or as set; 403 when the plan forbids it, by setting", ("guess",)),
    Behaviour(
        "training",
        "a trigger while it trains, or when it is ready: 409, 429, 400, no effect or another one, by settings",
        ("guess",),
    ),
    Behaviour("training", "the script's life cycle whatever the engine: nobody's likeness is learnt here", ("guess",)),
    Behaviour("training", "no cancel, no progress, no metrics, no download, no webhooks", ("doc",)),
    Behaviour("jobs", "created, queued, running, success, failed; success may read completed by setting", ("doc",)),
    Behaviour(
        "jobs", "items have neither model nor kind; start and end at most 7 days apart, a day by default", ("doc",)
    ),
    Behaviour("jobs", "trainings are listed and their detail names the model, unless set otherwise", ("doc", "guess")),
    Behaviour("generation", "job queued, running, success with images; needs a model that is ready", ("doc",)),
    Behaviour("generation", "the image is a blend of the model's own pictures that says sandbox stand-in", ("guess",)),
    Behaviour("generation", "64 to 2048 px, 4 images; refused words answer 400, failures by setting", ("guess",)),
    Behaviour("generation", "public models, aspectRatio and referenceImageURLs: not emulated, 404", ("guess",)),
    Behaviour("credits", "10 an image, 500 a training, or as set; taken at begin, given back on failure", ("guess",)),
    Behaviour("credits", "NOK insufficient credits with 402, or another status by setting, 200 among them", ("guess",)),
    Behaviour("credits", "in an account billed in micro-USD a credit is booked as 10 000", ("guess",)),
    Behaviour("videos", "not emulated", ("guess",)),
)
