"""What of Bluesight is emulated, and how each part of it is known.

Its `wire` was captured from the vendor's published server, run without its storage and network; nothing is known from
the hosted service itself.
"""

from sandbox.provenance import Behaviour, Provenance, Route


def _call(method: str, path: str, *known: Provenance, note: str = "") -> Route:
    return Route(method, path, "", known, note)


ROUTES: tuple[Route, ...] = (
    _call("GET", "/", "wire", note="a welcome in our words"),
    _call("POST", "/files", "wire", "doc", note="multipart, one part `file`; other fields are passed over"),
    _call("GET", "/files/{file_id}", "wire"),
    _call("DELETE", "/files/{file_id}", "wire", note="answers what it was"),
    _call("POST", "/training/jobs", "wire", "doc", "seed"),
    _call("GET", "/training/jobs/{job_id}", "wire", "doc"),
    _call("DELETE", "/training/jobs/{job_id}", "wire", note="cancels; a job cannot be removed"),
    _call("GET", "/models/{model_id}", "wire"),
    _call("DELETE", "/models/{model_id}", "wire", note="answers what it was"),
    _call("POST", "/inference", "wire", "doc"),
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("transport", "no key needed, and none is refused", ("src", "wire")),
    Behaviour("transport", "a Bearer key of ours picks its account; all others share one", ("guess",)),
    Behaviour(
        "transport", "an extra trailing slash answers 307; no list of anything, 404 or 405 with Allow", ("wire",)
    ),
    Behaviour("transport", "GET /openapi.json: 3.1.0, FastAPI 0.1.0, the routes above; no pages at /docs", ("wire",)),
    Behaviour("transport", "no rate limit headers; the account's own limit holds and answers 429", ("src", "guess")),
    Behaviour("transport", "/embeddings/img, /loc and /text are not emulated", ("wire",)),
    Behaviour("errors", "JSON {detail} that says it is text/plain; unknown ids 404", ("wire",)),
    Behaviour(
        "errors", "whatever else is wrong 400: the class and its text, Python's own repr of bad fields", ("wire",)
    ),
    Behaviour("errors", "unknown paths and methods answer application/json", ("wire",)),
    Behaviour("errors", "storage that is broken, by setting, answers 500", ("src",)),
    Behaviour("files", "any bytes are taken, the same ones twice are two files", ("wire",)),
    Behaviour("files", "a job's copy of a file outlives its deletion, here until the next start", ("src", "guess")),
    Behaviour("files", "a copy that was cut off, by setting, stays cut off under that id", ("src",)),
    Behaviour("files", "texts for fields, types, sides, shapes and platforms that are wrong", ("wire",)),
    Behaviour("files", "order of the checks; texts for bands and gsd that differ", ("guess",)),
    Behaviour("files", "an unknown platform or band passes the checks and fails in training", ("src",)),
    Behaviour("files", "errors of labels that do not fit the task, and of unknown platforms and bands", ("guess",)),
    Behaviour("files", "the validation file is read and checked as the training file is", ("guess",)),
    Behaviour("files", "over 512 MB unpacked, not all written, or data elsewhere: the job fails, ours", ("guess",)),
    Behaviour("jobs", "initializing, downloading_files, validating_files, running, succeeded or failed", ("wire",)),
    Behaviour("jobs", "queued, and words that no look catches, by setting", ("wire", "doc")),
    Behaviour("jobs", "an absent file is found out by the job; unknown keys of an order are dropped", ("wire",)),
    Behaviour("jobs", "num_classes: what fails without it", ("wire",)),
    Behaviour("jobs", "hyperparameters are echoed, or null by setting", ("wire", "doc")),
    Behaviour("jobs", "a cancel is overwritten by the job's next step, or final by setting", ("wire",)),
    Behaviour(
        "jobs", "finished_at of a cancelled job stays until the job ends; cancelling it twice answers 400", ("guess",)
    ),
    Behaviour("jobs", "while a job trains every request waits; what changes something is done afterwards", ("wire",)),
    Behaviour("jobs", "only the account whose job trains waits; scripted ones hold up by setting", ("guess",)),
    Behaviour("jobs", "a restart leaves a job that trained in its last status for ever", ("src",)),
    Behaviour("jobs", "one that had not begun trains after the restart, a script goes on by its clock", ("guess",)),
    Behaviour("jobs", "one job trains at a time on the whole sandbox; the others wait as initializing", ("guess",)),
    Behaviour("jobs", "no progress, no metrics, no price", ("wire", "src")),
    Behaviour("models", "model-xxxxxxxx, or the older form with the task by setting", ("wire", "doc")),
    Behaviour("models", "a small network of ours, a linear model after a script; bands in any order", ("guess",)),
    Behaviour("models", "a new one answers 404 for a while by setting", ("guess",)),
    Behaviour(
        "inference", "pixels are nested lists, square, a multiple of 8; labels alone are answered", ("wire", "doc")
    ),
    Behaviour("inference", "an unknown model answers 400 at first, then 404", ("wire",)),
    Behaviour("inference", "texts for pixels, bands and images that do not fit", ("guess",)),
    Behaviour("inference", "classification broken by setting, a 400", ("src",)),
    Behaviour("inference", "the text of the broken classification", ("guess",)),
)
