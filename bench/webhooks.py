"""How late a watch notices that its training has ended: with webhooks, and by polling alone, side by side.

Every training is watched twice at once, by the same loop with the hosted service's policy: one watch is woken by the
deliveries that a real receiver (``deployments.webhooks``) verifies and writes into the journal, the other one hears
nothing. The sandbox's Replicate server signs and sends the deliveries. Time is real: trainings last half a minute to
two. Lag is counted from the moment the provider says that the training completed.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine, isolate, parse_quick

if TYPE_CHECKING:
    from pipeline.models import TrainingRun, TrainPlan
    from providers.replicate.adapter import ReplicateProvider
    from sandbox.client import SandboxAccount

NEEDED_RATIO = 2.0
"""Polling's mean lag must be at least so many times as large as that with webhooks, over all trainings."""
NEEDED_MOST_S = 3.0
"""Largest acceptable lag with webhooks: a second until the journal is looked into, and what a busy machine adds."""
SECONDS = (30, 60, 120)
"""Lengths of the trainings."""
DRAWS = (0.137, 0.371, 0.593, 0.719, 0.933)
"""Trainings of one kind differ by these, up to a look's interval, so that no look falls on the end by choice."""
EPOCH_S = 4
"""The sandbox's trainer prints bars that expect so much for each epoch."""
DESTINATION = "sandbox-user/bench"
NO_DATA = "data:application/zip;base64,UEsFBg=="
"""An archive without members: a scripted training looks at nothing in it."""
NO_BARS = {"eta_s": None, "progress": None, "epoch": None, "total_epochs": None}
"""What is not known of a training whose log has no bars."""


@dataclass(frozen=True)
class Kind:
    """What a watch is told of a training's progress."""

    name: str
    """For the table."""
    has_bars: bool
    """Whether the trainer's log has progress bars, from which the next look is worked out."""


KINDS = (Kind("progress bars in its log", True), Kind("a log without bars", False))


@dataclass(frozen=True)
class Seen:
    """How one watch ended."""

    looks: int
    lag_s: float


@dataclass
class Cell:
    """Trainings of one kind and length, watched both ways."""

    polled: list[Seen] = field(default_factory=list)
    called: list[Seen] = field(default_factory=list)


class Bench:
    """A sandbox account, a receiver that hears of its trainings, and the two ways to watch one."""

    def __init__(self, account: SandboxAccount, provider: ReplicateProvider, webhook: str) -> None:
        self._account = account
        self._provider = provider
        self._webhook = webhook
        self._plan = _plan()

    def start(self, seconds: int, draw: float) -> TrainingRun:
        """Start a training that lasts so long, and a little more."""
        from pipeline.models import RunHandle
        from sandbox.replicate.models import TRAINER, TRAINER_VERSION

        length_s = seconds + 10.0 * draw
        running = {"status": "running", "for_s": length_s}
        self._account.configure(script={"steps": [{"status": "queued", "for_s": 1}, running, {"status": "completed"}]})
        given = {"train_data": NO_DATA, "pipeline": "classification", "epochs": max(1, round(length_s / EPOCH_S))}
        body: dict[str, Any] = {"destination": DESTINATION, "input": given, "webhook": self._webhook}
        body["webhook_events_filter"] = ["start", "completed"]
        training = self._provider.trainings.create(f"{TRAINER}:{TRAINER_VERSION}", body)
        return training.to_value(RunHandle(provider="replicate", run_id=training.id, name="bench", dataset="bench"))

    def watch(self, run: TrainingRun, kind: Kind, *, called: bool) -> Seen:
        """Watch a training to its end, as the stage does, woken by calls about it or not."""
        from pipeline.watch.watching import watch_run
        from tasks.deliveries import Deliveries
        from tasks.interruption import OwnState

        looks = 0

        def get() -> TrainingRun:
            nonlocal looks
            looks += 1
            seen = self._provider.get_run(run.handle)
            return seen if kind.has_bars else seen.model_copy(update=NO_BARS)

        own = OwnState()
        with ExitStack() as listening:
            if called:
                listening.enter_context(Deliveries(self._plan, run, own.wake))
            ended = watch_run(run, get, self._plan.poll, own.interrupting(time), lambda *_: None).run
        noticed_s = time.time()
        assert ended.completed_at is not None, f"{ended.handle.run_id}: {ended.provider_status}"
        return Seen(looks, noticed_s - ended.completed_at.timestamp())


def _plan() -> TrainPlan:
    """Return the plan every watch goes by: the hosted service's patience, and its word that it calls."""
    from pipeline.local_requests import ReplicateRequest
    from pipeline.models import Operation
    from pipeline.start.planning import resolve_plan
    from providers.replicate.profile import replicate_profile

    request = ReplicateRequest(dataset="bench.zip", trainer=f"sandbox/trainer:{'0' * 64}", destination=DESTINATION)
    return resolve_plan(request, replicate_profile(sandbox=False), Operation(id="bench"))


@contextmanager
def opened_bench(folder: Path) -> Iterator[Bench]:
    """Start a sandbox, an account and the receiver of its deliveries."""
    from pydantic import SecretStr

    from deployments.webhooks import create_app
    from providers.calls import ClientOptions
    from providers.replicate.adapter import ReplicateProvider
    from providers.replicate.profile import replicate_profile
    from sandbox.server import SandboxServer
    from tasks.webhooks import Receiver, SigningSecret
    from tests.deliveries import served

    with SandboxServer(folder) as server:
        account = server.new_account(engine="scripted", balance=10**12)
        options, profile = ClientOptions(base_url=server.url), replicate_profile(sandbox=True)
        provider = ReplicateProvider(SecretStr(account.api_key), options, profile)
        provider.models.ensure(DESTINATION, hardware="cpu")
        receiver = Receiver(SigningSecret(provider.accounts.webhook_secret))
        try:
            with served(create_app(receiver)) as url:
                yield Bench(account, provider, f"{url}/webhooks/replicate")
        finally:
            provider.close()


def main() -> int:
    """Measure, print, and return 1 when what is needed is missed."""
    quick = parse_quick(__doc__)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="bench-webhooks-", ignore_cleanup_errors=True) as folder:
        isolate(Path(folder))
        os.environ["TRAIN_PIPELINE_JOURNAL"] = str(Path(folder) / "journal.db")
        print(describe_machine("fastapi", "httpx", "uvicorn"))
        with opened_bench(Path(folder) / "sandbox") as bench:
            return _judge(_measure(bench, SECONDS[:1] if quick else SECONDS, DRAWS[:3] if quick else DRAWS))


def _measure(bench: Bench, lengths: tuple[int, ...], draws: tuple[float, ...]) -> dict[tuple[Kind, int], Cell]:
    """Watch all trainings of both kinds at once, each by two watches."""
    cells = {(kind, seconds): Cell() for kind in KINDS for seconds in lengths}
    with ThreadPoolExecutor(2 * len(cells) * len(draws)) as pool:
        watches: list[tuple[list[Seen], Callable[[], Seen]]] = []
        for (kind, seconds), cell in cells.items():
            for draw in draws:
                run = bench.start(seconds, draw)
                for seen, called in ((cell.polled, False), (cell.called, True)):
                    watches.append((seen, pool.submit(bench.watch, run, kind, called=called).result))
        for seen, result in watches:
            seen.append(result())
    return cells


def _judge(cells: dict[tuple[Kind, int], Cell]) -> int:
    print("\nlooks polled/called = share, mean lag polled/called in s = ratio (largest of each)")
    lengths = sorted({seconds for _, seconds in cells})
    print(f"{'':<26}" + "".join(f"{f'{seconds} s':>46}" for seconds in lengths))
    for kind in KINDS:
        print(f"{kind.name:<26}" + "".join(f"{_shown(cells[kind, seconds]):>46}" for seconds in lengths))
    every = Cell()
    for cell in cells.values():
        every.polled += cell.polled
        every.called += cell.called
    polled_s, called_s = _lag_s(every.polled), _lag_s(every.called)
    print(f"{'all':<26}{_shown(every):>46}   {len(every.called)} trainings")
    most_s = max(seen.lag_s for seen in every.called)
    met = polled_s >= NEEDED_RATIO * called_s and most_s <= NEEDED_MOST_S
    print(
        f"needed: ratio >= {NEEDED_RATIO}, no lag with webhooks above {NEEDED_MOST_S} s: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


def _shown(cell: Cell) -> str:
    polled, called = mean(seen.looks for seen in cell.polled), mean(seen.looks for seen in cell.called)
    polled_s, called_s = _lag_s(cell.polled), _lag_s(cell.called)
    largest = f"({max(seen.lag_s for seen in cell.polled):.1f}/{max(seen.lag_s for seen in cell.called):.1f})"
    looks = f"{polled:.1f}/{called:.1f}={called / polled:.2f}"
    return f"{looks}  {polled_s:.2f}/{called_s:.2f}={polled_s / called_s:.1f} {largest}"


def _lag_s(seen: list[Seen]) -> float:
    return mean(one.lag_s for one in seen)


if __name__ == "__main__":
    sys.exit(main())
