"""`python -m sandbox`: serve the sandbox, put data in, read its bill."""

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from sandbox.builtin import BuiltIn
from sandbox.client import SandboxAccount
from sandbox.datasets import DataError
from sandbox.launch import SandboxStartError, default_home, ensure_running, find_running

app = App(name="sandbox", help="A local training provider with the vendors' HTTP APIs.")
Task = Literal["classification", "segmentation"]
Home = Annotated[Path | None, Parameter(help="Folder it keeps everything in.")]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _folder(home: Path | None) -> Path:
    return (home or default_home()).resolve()


def _running(home: Path | None) -> SandboxAccount:
    found = find_running(_folder(home))
    if found is None:
        raise SandboxStartError(f"no sandbox serves {str(_folder(home))!r}: start one with `python -m sandbox serve`")
    return SandboxAccount(found.url, found.api_key)


def _end(_signal: int, _frame: object) -> None:
    """Leave by way of the finally blocks: trainings are stopped and the address file goes."""
    raise SystemExit(0)


def _show(body: Any) -> None:
    _say(json.dumps(body, indent=2))


@app.default
@app.command
def serve(*, home: Home = None, port: int = 0, exit_when_idle: float | None = None) -> None:
    """Serve the sandbox until Ctrl-C.

    Args:
        home: Folder it keeps everything in.
        port: Port on 127.0.0.1; 0 takes the first free one from 7717 on.
        exit_when_idle: End after so many seconds without a request, once nothing trains.
    """
    from sandbox.server import serve as run

    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(KeyboardInterrupt):
        run(_folder(home), port=port, exit_when_idle_s=exit_when_idle, say=_say)


@app.command(name="import")
def import_folder(folder: Path, *, name: str, home: Home = None) -> None:
    """Make a dataset of labelled images: COCO, YOLO, masks, an export's ZIP, or one folder a class.

    Args:
        folder: The folder, or ZIP file of one, to read.
        name: Name of the dataset; one of the same name is replaced.
        home: Folder the sandbox keeps everything in.
    """
    address = ensure_running(_folder(home))
    account = SandboxAccount(address.url, address.api_key)
    _show(account.add_dataset(name, folder=str(folder.resolve())))


@app.command
def bill(*, home: Home = None) -> None:
    """Show what the default account started, was charged and got back."""
    _show(_running(home).bill())


@app.command
def status(*, home: Home = None) -> None:
    """Show where the sandbox answers and what its default account is set to."""
    account = _running(home)
    _show({"url": account.url, "home": str(_folder(home)), **account.control("GET", "/account")})


@app.command
def reset(*, home: Home = None) -> None:
    """Make the default account's data, runs and money as new, built-in datasets included; its settings stay."""
    from sandbox.builtin import AT_FIRST_START

    account = _running(home)
    account.reset()
    for name in AT_FIRST_START:
        account.add_dataset(name, kind=name)
    _say("the default account's data, runs and money are as new; its settings stay")


@app.command
def tiles(path: Path, *, task: Task = "classification", count: int = 60, side: int = 32, seed: int = 0) -> None:
    """Draw a training file of satellite tiles for Bluesight: water, forest and fields, with labels to be learned.

    Args:
        path: The HDF5 file to write.
        task: Whether each tile has a label, or each of its pixels.
        count: Tiles.
        side: Pixels of a side, a multiple of eight.
        seed: Where the drawing begins; the same one gives the same file.
    """
    from sandbox.tiles_demo import Demonstration, write_demonstration

    try:
        _show(write_demonstration(path, Demonstration(task, count, side, seed)))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f"sandbox: {error}") from error


@app.command
def archive(path: Path, *, data: BuiltIn = "road-signs", count: int | None = None, seed: int | None = None) -> None:
    """Write a built-in data set as a ZIP archive of labelled images, which a trainer at Replicate can be given.

    Args:
        path: The archive to write.
        data: The data set.
        count: Images; the data set's own number when left out.
        seed: Where the drawing begins; the same one gives the same images.
    """
    from sandbox.builtin import generate
    from sandbox.exportzip import write_export

    try:
        images = generate(data, count=count, seed=seed)
        counts = write_export(path, dataset=data, export=path.stem, images=images, include_images=True)
    except (DataError, OSError) as error:
        raise SystemExit(f"sandbox: {error}") from error
    _show({"path": str(path), "images": counts.image_count, "annotations": counts.annotation_count})


@app.command
def portraits(folder: Path, *, count: int = 14, seed: int = 0) -> None:
    """Draw pictures of a person who does not exist, which PhotoGPT can be given.

    Args:
        folder: Where they go.
        count: Pictures, 12 to 20.
        seed: Which person; the same one gives the same pictures.
    """
    from sandbox.portraits_demo import write_portraits

    try:
        _show({"folder": str(folder), "pictures": len(write_portraits(folder, count, seed))})
    except (ValueError, OSError) as error:
        raise SystemExit(f"sandbox: {error}") from error


@app.command
def coverage() -> None:
    """Print the table of what is emulated, and how each part is known, as Markdown."""
    from sandbox.coverage import render

    _say(render())


def main() -> None:
    """Run a command, showing its errors in one line."""
    try:
        app()
    except (SandboxStartError, RuntimeError) as error:
        raise SystemExit(f"sandbox: {error}") from error


if __name__ == "__main__":
    main()
