"""What a scripted trainer prints: a bar for each epoch, or for a thousand of them, growing line by line."""

from sandbox.lifecycle import script_of
from sandbox.script import Position, epoch_of
from sandbox.store import Row

_EPOCHS, _WIDTH = 10, 10
_MOST_EPOCHS, _MOST_BARS = 1_000_000_000, 1000
_SECONDS_AN_EPOCH = 4


def scripted_logs(row: Row, position: Position) -> str | None:
    """Return everything printed at a point of a script; None before the training runs."""
    total = _epochs(row)
    done = _done(row, position, total)
    if done is None:
        return None
    given = row["data"]["input"]
    lines = [f"Training {given.get('pipeline', 'yolox')} for {total} epochs", _bar(0, total)]
    for epoch in _shown(done, total):
        lines += [_bar(epoch, total), f"epoch {epoch}/{total}: loss {4.0 / (1 + epoch):.4f}"]
    if done == total:
        lines += ["Exporting model.onnx", "Packing weights"]
    return "\n".join(lines) + "\n"


def complete_logs(row: Row) -> str:
    """Return what a training has printed when it is through."""
    script = script_of(row)
    return scripted_logs(row, Position(len(script.steps), script.steps[-1], 1.0, 0.0, None)) or ""


def _epochs(row: Row) -> int:
    asked = row["data"]["input"].get("epochs")
    return min(asked, _MOST_EPOCHS) if isinstance(asked, int) and asked > 0 else _EPOCHS


def _shown(done: int, total: int) -> list[int]:
    """Return the finished epochs that have a bar: all of them, or of a very long training evenly spread ones."""
    every = -(-total // _MOST_BARS)
    shown = list(range(every, done + 1, every))
    return [*shown, total] if done == total and total % every else shown


def _done(row: Row, position: Position, total: int) -> int | None:
    """Return the epochs that are finished; None before the first running step."""
    steps = script_of(row).steps
    running = [index for index, step in enumerate(steps) if step.status == "running"]
    if position.index in running:
        epoch, of = epoch_of(position, total)
        return epoch * total // of
    if not running or position.index < running[0]:
        return None
    return total


def _bar(done: int, total: int) -> str:
    share = done / total
    glyphs = ("#" * int(share * _WIDTH)).ljust(_WIDTH)
    elapsed, left = done * _SECONDS_AN_EPOCH, (total - done) * _SECONDS_AN_EPOCH
    rate = f"{1 / _SECONDS_AN_EPOCH:.2f}it/s" if done else "?it/s"
    clock = f"{elapsed // 60:02d}:{elapsed % 60:02d}<{f'{left // 60:02d}:{left % 60:02d}' if done else '?'}"
    return f"{int(100 * share):3d}%|{glyphs}| {done}/{total} [{clock}, {rate}]"
