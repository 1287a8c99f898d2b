"""Requests and lag of our waiting beside the published client's loop, on the same scripted runs.

The sandbox runs on a virtual clock that both waiters move by sleeping: hours pass in seconds. The published client is
used as it is (``training.wait_for_completion``, a look every 5 s); ours is the policy of the provider's profile. After
that the rule for the next look is compared with other rules, each over the same runs.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine, isolate, parse_quick
from bench.scenarios import RULES, SCENARIOS, Rule, Scenario, VirtualTime, as_seen, forecast_of

if TYPE_CHECKING:
    from pipeline.models import PollPolicy, TrainingRun
    from pipeline.provider import Provider
    from sandbox.client import SandboxAccount

NEEDED_SHARE = 0.2
"""Largest acceptable share of the loop's requests, over all scenarios."""
MINUTES = (1, 5, 20, 60, 120)
"""Lengths of the trainings."""
DRAWS = (0.137, 0.371, 0.593, 0.719, 0.933)
"""Runs of one kind differ by these: 10 to 15 s in the queue and up to 5 % of length, so that no waiter's looks fall on
the end by the choice of round numbers."""
RULE_MINUTES = (5, 20)
"""Lengths over which rules are compared."""
DATASET, EXPORT = "bench", "bench"


@dataclass
class Tally:
    """What one waiter did over some runs."""

    requests: list[int] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)

    def add(self, requests: int, lag_s: float) -> None:
        """Take in one run."""
        self.requests.append(requests)
        self.lags_s.append(lag_s)


class Bench:
    """A sandbox on virtual time, its account, and the two waiters."""

    def __init__(self, account: SandboxAccount, clock: VirtualTime, provider: Provider) -> None:
        self.clock = clock
        self._account = account
        self._provider = provider
        self._policy = _hosted_policy()
        self._started = 0

    def measure(self, scenario: Scenario, minutes: int, draw: float, wait: Callable[[str], int]) -> tuple[int, float]:
        """Start a run, wait for it, and return the requests made and the lag in seconds."""
        steps = scenario.steps(minutes, draw)
        self._account.configure(script={"steps": steps, "eta_noise": scenario.eta_noise, "gpu_minutes": 1})
        run_id = self._create()
        ends_at_s = self.clock.now_s() + sum(step.get("for_s", 0.0) for step in steps)
        requests = wait(run_id)
        return requests, self.clock.now_s() - ends_at_s

    def _create(self) -> str:
        self._started += 1
        name = f"run-{self._started}"
        body = {"dataset_name": DATASET, "export_name": EXPORT, "pipeline_type": "classification", "name": name}
        with self._account.http() as http:
            answer = http.post("/training/", json={**body, "gpu_type": "a10g", "config": {"epochs": 50}})
        answer.raise_for_status()
        return str(answer.json()["data"]["id"])

    def wait_as_published(self, run_id: str) -> int:
        """Wait with the published client, unmodified; its ``time`` module is ours."""
        from pictograph import Client
        from pictograph.resources import training

        with (
            Client(api_key=self._account.api_key, base_url=self._account.url, max_retries=0) as client,
            patch.object(training, "time", self.clock),
            counted_requests() as requests,
        ):
            client.training.wait_for_completion(run_id=run_id, timeout=100_000)
        return len(requests)

    def wait_as_ours(self, run_id: str, scenario: Scenario, rule: Rule = RULES[0]) -> int:
        """Wait with our loop and the profile's policy, or with the changes of a rule."""
        from pipeline.models import RunHandle
        from pipeline.watch.polling import observe

        handle = RunHandle(provider="pictograph", run_id=run_id, name="run", dataset=DATASET)
        policy = self._policy.model_copy(update={**rule.policy, "deadline_s": 100_000.0})

        def get() -> TrainingRun:
            return as_seen(self._provider.get_run(handle), scenario)

        with counted_requests() as requests:
            for _ in observe(get, policy, self.clock, forecast_of(rule, self.clock)):
                pass
        return len(requests)


@contextmanager
def counted_requests() -> Iterator[list[str]]:
    """Yield the paths of all requests that leave this process, whoever sends them: both sides are counted alike."""
    import httpx

    paths: list[str] = []
    send = httpx.HTTPTransport.handle_request

    def counted(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return send(transport, request)

    with patch.object(httpx.HTTPTransport, "handle_request", counted):
        yield paths


def _hosted_policy() -> PollPolicy:
    from providers.pictograph.profile import pictograph_profile

    return pictograph_profile(sandbox=False).poll


@contextmanager
def opened_bench(folder: Path) -> Iterator[Bench]:
    """Start a sandbox on virtual time with an account, a data set and an export."""
    from pydantic import SecretStr

    from providers.calls import ClientOptions
    from providers.pictograph.adapter import PictographProvider
    from providers.pictograph.profile import pictograph_profile
    from sandbox.server import SandboxServer

    clock = VirtualTime()
    with SandboxServer(folder, clock) as server:
        account = server.new_account(engine="scripted", rate_limit=10**5, balance=10**12)
        account.add_dataset(DATASET, count=8, single=True)
        with account.http() as http:
            order = {"dataset_name": DATASET, "name": EXPORT, "include_images": True}
            http.post("/exports/", json=order).raise_for_status()
        options = ClientOptions(base_url=server.url)
        provider = PictographProvider(SecretStr(account.api_key), options, pictograph_profile(sandbox=True))
        try:
            yield Bench(account, clock, provider)
        finally:
            provider.close()


def main() -> int:
    """Measure, print, and return 1 when what is needed is missed."""
    quick = parse_quick(__doc__)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="bench-waiting-", ignore_cleanup_errors=True) as folder:
        isolate(Path(folder))
        print(describe_machine("pictograph", "httpx"))
        with opened_bench(Path(folder) / "sandbox") as bench:
            draws, lengths = (DRAWS[1:3], MINUTES[:3]) if quick else (DRAWS, MINUTES)
            ours, loop = _compare(bench, draws, lengths)
            _compare_rules(bench, draws)
    return _judge(ours, loop)


def _compare(bench: Bench, draws: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[Tally, Tally]:
    print("\nrequests ours/loop = share, mean lag ours/loop in s (largest of ours)")
    print(f"{'':<24}" + "".join(f"{f'{minutes} min':>30}" for minutes in lengths))
    # The loop looks every 5 s whatever the run says, so each length is waited for once, and not again a scenario.
    loops = {minutes: _loop(bench, SCENARIOS[0], minutes, draws) for minutes in lengths}
    tails = {minutes: _loop(bench, SCENARIOS[-1], minutes, draws) for minutes in lengths}
    all_ours, all_loop = Tally(), Tally()
    for scenario in SCENARIOS:
        cells = []
        for minutes in lengths:
            loop = tails[minutes] if scenario.tail else loops[minutes]
            ours = _ours(bench, scenario, minutes, draws, RULES[0])
            cells.append(_cell(ours, loop))
            for tally, more in ((all_ours, ours), (all_loop, loop)):
                tally.requests += more.requests
                tally.lags_s += more.lags_s
        print(f"{scenario.name:<24}" + "".join(f"{cell:>30}" for cell in cells))
    return all_ours, all_loop


def _loop(bench: Bench, scenario: Scenario, minutes: int, draws: tuple[float, ...]) -> Tally:
    tally = Tally()
    for draw in _some(draws, minutes):
        tally.add(*bench.measure(scenario, minutes, draw, bench.wait_as_published))
    return tally


def _ours(bench: Bench, scenario: Scenario, minutes: int, draws: tuple[float, ...], rule: Rule) -> Tally:
    tally = Tally()
    for draw in _some(draws, minutes):
        tally.add(*bench.measure(scenario, minutes, draw, lambda run: bench.wait_as_ours(run, scenario, rule)))
    return tally


def _some(draws: tuple[float, ...], minutes: int) -> tuple[float, ...]:
    """Return fewer draws of long runs: an hour takes the loop 720 requests."""
    return draws if minutes < 60 else draws[::2]


def _cell(ours: Tally, loop: Tally) -> str:
    share = mean(ours.requests) / mean(loop.requests)
    return (
        f"{mean(ours.requests):.0f}/{mean(loop.requests):.0f}={share:.2f} "
        f"{mean(ours.lags_s):4.1f}/{mean(loop.lags_s):.1f} ({max(ours.lags_s):.0f})"
    )


def _compare_rules(bench: Bench, draws: tuple[float, ...]) -> None:
    print(f"\nother rules, runs of {', '.join(map(str, RULE_MINUTES))} min: mean requests, mean lag in s (largest)")
    print(f"{'':<24}" + "".join(f"{scenario.name:>24}" for scenario in SCENARIOS))
    for rule in RULES:
        cells = []
        for scenario in SCENARIOS:
            tally = Tally()
            for minutes in RULE_MINUTES:
                some = _ours(bench, scenario, minutes, draws[:3], rule)
                tally.requests += some.requests
                tally.lags_s += some.lags_s
            cells.append(f"{mean(tally.requests):.0f} {mean(tally.lags_s):5.1f} ({max(tally.lags_s):.0f})")
        print(f"{rule.name:<24}" + "".join(f"{cell:>24}" for cell in cells))


def _judge(ours: Tally, loop: Tally) -> int:
    share = sum(ours.requests) / sum(loop.requests)
    policy = _hosted_policy()
    print(
        f"\nall: {sum(ours.requests)} requests against {sum(loop.requests)} = {share:.3f}; mean lag "
        f"{mean(ours.lags_s):.2f} s against {mean(loop.lags_s):.2f} s; largest {max(ours.lags_s):.1f} s, "
        f"ceiling {policy.ceiling_s:.0f} s"
    )
    met = (
        share <= NEEDED_SHARE
        and mean(ours.lags_s) <= mean(loop.lags_s)
        and max(ours.lags_s) <= policy.ceiling_s
        and min(ours.lags_s) >= 0
    )
    print(
        f"needed: share <= {NEEDED_SHARE}, no larger mean lag, no lag above the ceiling: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
