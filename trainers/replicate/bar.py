"""Progress lines in the shape that Replicate's client reads progress from."""

import math

_CELLS = 10


def bar_line(done: int, total: int, elapsed_s: float) -> str:
    """Return one line such as `` 38%|###7      | 6/16 [00:00<00:01, 7.83it/s]``."""
    tenths = done * _CELLS * 10 // total
    full, part = divmod(tenths, 10)
    cells = "#" * full + (str(part) if part else "")
    rate = done / elapsed_s if done and elapsed_s > 0 else None
    left = _clock(math.ceil((total - done) / rate)) if rate else "?"
    speed = "?it/s" if rate is None else f"{rate:.2f}it/s" if rate >= 1 else f"{1 / rate:.2f}s/it"
    percent = round(100 * done / total)
    return f"{percent:3d}%|{cells:<{_CELLS}}| {done}/{total} [{_clock(int(elapsed_s))}<{left}, {speed}]"


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
