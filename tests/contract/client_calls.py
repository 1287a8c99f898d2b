"""Makes calls with the vendor's published client, whichever version this interpreter has.

Run as a script it reads one call a line from standard input and answers each with one line, so that a test can look at
what the call put on the wire before it sends the next one. It imports nothing of this project: the interpreter of an
old client has none of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def perform(client: Any, target: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """Call ``resource.method``, reading iterators to their end; return ``ok`` or what was raised."""
    resource, method = target.split(".")
    try:
        result = getattr(getattr(client, resource), method)(*args, **kwargs)
        if method == "iter" or target == "jobs.list":
            list(result)
    except Exception as exc:  # the vendor's own tree; the caller wants to know, not to handle
        return f"{type(exc).__name__}: {exc}"
    return "ok"


def main() -> None:
    """Answer calls until standard input ends."""
    from pictograph import Client

    client = Client(api_key=sys.argv[1], base_url=sys.argv[2])
    for line in sys.stdin:
        call = json.loads(line)
        sys.stdout.write(json.dumps(perform(client, call["target"], call["args"], call["kwargs"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
