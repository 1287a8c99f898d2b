"""What of Replicate is emulated, and how each part of it is known."""

from sandbox.provenance import Behaviour, Provenance, Route


def _api(method: str, path: str, *known: Provenance, note: str = "") -> Route:
    return Route(method, f"/v1{path}", "", known, note)


_MODEL = "/models/{owner}/{name}"

ROUTES: tuple[Route, ...] = (
    _api("POST", f"{_MODEL}/versions/{{version}}/trainings", "wire", "sdk", "doc"),
    _api("GET", "/trainings", "wire", "doc", note="100 a page, newest first; `previous` by our own cursor [guess]"),
    _api("GET", "/trainings/{training_id}", "wire", "sdk"),
    _api("POST", "/trainings/{training_id}/cancel", "wire", "sdk", note="one that ended is answered as it is [guess]"),
    _api("POST", "/predictions", "wire", "doc", note="versions of own models; Prefer and Cancel-After"),
    _api("GET", "/predictions", "wire", "doc", note="created_after, created_before and source"),
    _api("GET", "/predictions/{prediction_id}", "wire", "sdk", note="a young training too [issue]"),
    _api("POST", "/predictions/{prediction_id}/cancel", "wire", "sdk"),
    _api("POST", "/models", "wire", "doc", note="a known name answers 409 [guess], another owner 403 [guess]"),
    _api("GET", _MODEL, "wire", "sdk"),
    _api("DELETE", _MODEL, "wire", "doc", note="403 unless private and without versions [guess]"),
    _api("GET", f"{_MODEL}/versions", "wire", "doc", note="newest first"),
    _api("GET", f"{_MODEL}/versions/{{version}}", "wire", "sdk"),
    _api("DELETE", f"{_MODEL}/versions/{{version}}", "wire", "doc", note="202 and gone at once"),
    _api("POST", "/files", "wire", "sdk", note="parts content or upload; metadata as text or as a part"),
    _api("GET", "/files", "wire", "sdk"),
    _api("GET", "/files/{file_id}", "wire", "sdk"),
    _api("DELETE", "/files/{file_id}", "wire", "sdk"),
    _api(
        "GET",
        "/files/{file_id}/download",
        "doc",
        note="signed with the webhook secret [guess]; needs the token too [guess]",
    ),
    _api("GET", "/account", "wire", "doc"),
    _api("GET", "/hardware", "wire", "sdk", note="a bare array"),
    _api("GET", "/webhooks/default/secret", "wire", "doc"),
    Route("GET", "/delivery/{account_id}/{training_id}/{name}", "", ("doc", "guess"), "ours in form; needs no token"),
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("transport", "Authorization: Bearer, or Token as before", ("wire", "doc")),
    Behaviour("errors", "problem documents with as many fields as each recorded one has", ("sdk",)),
    Behaviour("errors", "a destination that does not exist answers 404 without a title", ("sdk",)),
    Behaviour("errors", "a version that cannot be used answers 422 Invalid version or not permitted", ("issue",)),
    Behaviour("errors", "401 Unauthenticated", ("sdk", "issue")),
    Behaviour("errors", "422 for JSON with NaN, Infinity, half a surrogate pair, or over 100 levels", ("guess",)),
    Behaviour("errors", "bodies of 402 and 403, title and detail of other 404s", ("guess",)),
    Behaviour("rate limit", "600 prediction creates, 3 000 others a minute; ratelimit-remaining and -reset", ("doc",)),
    Behaviour("rate limit", "429 with retry_after in the body and no Retry-After header", ("issue",)),
    Behaviour("rate limit", "not emulated: bursts, and the tighter limit of accounts low on credit", ("doc", "issue")),
    Behaviour(
        "trainings", "a create answers nine fields, links to /predictions/ and nine digits of a second", ("sdk",)
    ),
    Behaviour("trainings", "created_at of a create differs from later ones by 23 ms", ("sdk", "guess")),
    Behaviour("trainings", "logs are empty, then null, then grow; a list has none", ("sdk", "doc")),
    Behaviour("trainings", "an input that the trainer refuses fails the run, not the request", ("issue",)),
    Behaviour("trainings", "text of that failure", ("issue", "guess")),
    Behaviour("trainings", "found under /predictions/ too, by default for 30 minutes", ("issue",)),
    Behaviour("trainings", "by setting: 404 and in no list for some seconds after the create", ("issue",)),
    Behaviour("trainings", "by setting: another version than was asked for", ("sdk", "issue")),
    Behaviour("trainings", "by setting: failed after complete logs, with the vendor's sentence", ("issue",)),
    Behaviour("trainings", "by setting: output as an address alone, or as a list", ("doc", "guess")),
    Behaviour("trainings", "by script: the vendor's own words, aborted, and words that nobody knows", ("doc", "guess")),
    Behaviour("trainings", "by script: fails without its uploaded file; addresses elsewhere stay unread", ("guess",)),
    Behaviour("trainings", "by script: a thousand bars in the logs at most", ("guess",)),
    Behaviour("trainings", "destination is never answered; output.version is owner/name and 64 hex", ("sdk",)),
    Behaviour("trainings", "one trainer, sandbox/vision-trainer, is there for everybody", ("guess",)),
    Behaviour("trainings", "its openapi_schema has /trainings and TrainingInput", ("sdk",)),
    Behaviour("weights", "a tar with model.onnx and config.json; by setting tar.gz, zip, onnx, or none", ("guess",)),
    Behaviour("retention", "input, output, logs and weights go an hour after the end, the version stays", ("doc",)),
    Behaviour("retention", "that this holds for trainings, and input is then an empty object", ("issue", "guess")),
    Behaviour("money", "seconds x the published price of the trainer's hardware, booked at the end", ("doc",)),
    Behaviour("money", "a failed run pays for the time it ran", ("guess",)),
    Behaviour("money", "a canceled training pays for the time it ran, an aborted run nothing", ("doc",)),
    Behaviour("money", "a training that began anew pays for its last child alone, never for downtime", ("guess",)),
    Behaviour("money", "a canceled prediction pays from its create on, the boot so far with it", ("doc", "guess")),
    Behaviour("money", "a prediction pays for the boot of its model too, as on private models", ("doc",)),
    Behaviour("money", "seconds of a script are the script's; a step by looks or by hand is one second", ("guess",)),
    Behaviour("files", "100 MB at most, else 413; expires_at after 24 hours, by setting sooner", ("sdk", "doc")),
    Behaviour("files", "a data URI of more than 256 kB answers 422, in trainings too", ("doc", "guess")),
    Behaviour("files", "inputs are fetched from /v1/files, data URIs and this machine alone", ("guess",)),
    Behaviour("predictions", "answered by the trained network itself; form of the output", ("guess",)),
    Behaviour(
        "predictions", "one nobody reads runs at the account's next request, or when its bill is read", ("guess",)
    ),
    Behaviour("predictions", "202 and starting while the model boots, 201 with the output", ("doc",)),
    Behaviour("predictions", "by setting: still processing although the output is there", ("sdk",)),
    Behaviour("predictions", "not emulated: streams, official models, deployments", ("doc",)),
    Behaviour(
        "webhooks", "start, output, logs, completed: the bare object, signed; this machine alone", ("doc", "sdk")
    ),
    Behaviour("webhooks", "without a filter: start, output and completed", ("doc", "guess")),
    Behaviour("webhooks", "logs at most every 500 ms", ("doc",)),
    Behaviour("webhooks", "the terminal one is tried six times more in about a minute, others never", ("doc", "guess")),
    Behaviour("webhooks", "by setting: twice, late, out of order, or not at all", ("doc", "guess")),
)
