"""What the sandbox's processes are told of the environment they are started in."""

import os
from pathlib import Path

_NOT_TOLD = ("PICTOGRAPH_", "REPLICATE_", "PHOTOGPT_", "BLUESIGHT_", "TRAIN_PIPELINE_", "PREFECT_")
"""Keys of hosted accounts, addresses with passwords in them: no business of a server that outlives its starter."""
_ROOT = Path(__file__).resolve().parents[1]


def child_environment(**own: str) -> dict[str, str]:
    """Return the environment of a process of ours: this one's without what may be secret, the code's place, and own."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_TOLD)}
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **own}
