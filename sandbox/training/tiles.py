"""The child of a training on satellite tiles: `python -m sandbox.training.tiles FOLDER`.

It reads job.json and the files named there, says in progress.json how far it is, and leaves model.npz and result.json.
"""

import fcntl
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.tiles import Tiles, check_trainable, described, read_tiles
from sandbox.training.results import LOCK, RESULT, write_json

JOB, MODEL, PROGRESS = "job.json", "model.npz", "progress.json"
_SEED = 0


def main(argv: list[str]) -> int:
    """Train the job of the folder given and write its result, whatever happens."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m sandbox.training.tiles FOLDER\n")
        return 2
    folder = Path(argv[0])
    with (folder / LOCK).open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as long as this process lives, it says that somebody trains here
        try:
            result = _train(folder, json.loads((folder / JOB).read_text(encoding="utf-8")))
        except Exception as error:  # a training that breaks is a result, not a crash
            traceback.print_exc()
            result = {"status": "failed", "error": described(error)}
        write_json(folder / RESULT, result)
    return 0


def _train(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    _say(folder, status="validating_files")
    tiles = read_tiles(folder / job["training_file"])
    held_out = read_tiles(folder / job["validation_file"]) if job["validation_file"] else None
    import torch  # a second or two, in which a file that cannot be used has been refused already

    from sandbox.training import tiles_network

    torch.set_num_threads(1)
    _say(folder, status="running")
    check_trainable(tiles, job["task"], job["hyperparameters"])
    trained = tiles_network.train(
        tiles,
        job["task"],
        seed=_SEED,
        report=lambda step, steps: _say(folder, status="running", step=step, steps=steps),
    )
    content = trained.model.to_bytes()
    (folder / MODEL).write_bytes(content)
    sys.stdout.write(f"{trained.steps} steps, {trained.accuracy:.3f} right on what it was trained on\n")
    if held_out is not None:
        sys.stdout.write(f"{_accuracy(trained.model, held_out):.3f} right on the validation file\n")
    return {"status": "completed", "bytes": len(content), "accuracy": trained.accuracy}


def _accuracy(model: Any, tiles: Tiles) -> float:
    return float((model.predict(tiles.pixels, tiles.bands) == tiles.labels).mean())


def _say(folder: Path, **words: Any) -> None:
    write_json(folder / PROGRESS, words)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is written; unloading torch takes half a second more
