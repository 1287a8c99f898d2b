"""Receive the provider's webhooks: ``python -m deployments.webhooks --port 7718``, beside the journal and Prefect.

Point ``REPLICATE_WEBHOOK_URL`` at ``https://.../webhooks/replicate`` of whatever leads here. What is received makes
flows look early and nothing else: without this process, or with forged, lost or repeated deliveries, they look as
often as they do anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import logging
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from pipeline.errors import PipelineError
from tasks.forwarding import Forwarding, bring_forward
from tasks.webhooks import Receiver, Taken, answer_to, replicate_receiver

logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 7718
"""Where it listens unless told otherwise: TLS and the public address are a proxy's business."""
BODY_BYTES = 2_000_000
"""Largest body; a training with an hour's logs is a tenth of it."""
BODY_S = 5.0
"""Seconds a body may take to arrive."""
ANSWER_S = 0.8
"""Seconds after which a delivery is answered without its outcome: the provider sends again what matters."""
THREADS = 4
"""Deliveries taken in at once; they are milliseconds each unless the journal or the API is slow."""
MOST_AT_ONCE = 64
"""Connections beyond these are answered 503."""


class _TooLargeError(Exception):
    """The body is larger than it may be."""


def create_app(receiver: Receiver, forwarding: Forwarding | None = None, *, answer_s: float = ANSWER_S) -> FastAPI:
    """Return the application; ``forwarding`` is told each run the provider has called about."""
    forwarding = forwarding or Forwarding(partial(bring_forward, receiver.provider))
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
    inbox = _Inbox(receiver, forwarding, pool, answer_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with forwarding:
            pool.submit(contextvars.copy_context().run, receiver.prepare)
            yield
            pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route(f"/webhooks/{receiver.provider}", inbox.deliver, methods=["POST"])
    app.add_api_route("/healthz", inbox.health, methods=["GET"])
    return app


class _Inbox:
    """Answers requests; everything that may take time happens on the pool's threads."""

    def __init__(self, receiver: Receiver, forwarding: Forwarding, pool: ThreadPoolExecutor, answer_s: float) -> None:
        self._receiver = receiver
        self._forwarding = forwarding
        self._pool = pool
        self._answer_s = answer_s

    async def health(self) -> Response:
        """Answer whether deliveries can be judged."""
        known = self._receiver.secret.is_known
        return Response("ok" if known else "the signing secret is not known yet", 200 if known else 503)

    async def deliver(self, request: Request) -> Response:
        """Answer one delivery: 2xx taken in, 4xx never will be, 5xx send it again."""
        try:
            body = await asyncio.wait_for(_read(request), BODY_S)
        except TimeoutError:
            return Response("the body did not arrive in time", 408)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it: whoever sent it has gone
        except _TooLargeError:
            return Response(f"larger than {BODY_BYTES} bytes", 413)
        context = contextvars.copy_context()
        work = partial(context.run, self._take_in, dict(request.headers), body)
        try:
            status = await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(self._pool, work), self._answer_s
            )
        except TimeoutError:
            logger.warning("a delivery was not taken in within %.1f s: answered 503", self._answer_s)
            status = 503
        return Response(status_code=status)

    def _take_in(self, headers: Mapping[str, str], body: bytes) -> int:
        try:
            taken = self._receiver.take_in(headers, body)
        except PipelineError as error:
            status = answer_to(error)
            logger.warning("a delivery is answered %d: %s", status, error)
            return status
        self._pass_on(taken)
        return 204

    def _pass_on(self, taken: Taken) -> None:
        if taken.is_new:
            logger.info("%s has called about training %s", self._receiver.provider, taken.run_id)
            self._forwarding.add(taken.run_id)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise _TooLargeError
    return bytes(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m deployments.webhooks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", default=HOST, help=f"address to listen on, {HOST} by default")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on, {PORT} by default")
    parser.add_argument(
        "--sandbox", action="store_true", help="take in the sandbox's deliveries instead of Replicate's"
    )
    parser.add_argument("--credentials", help="Prefect credentials block with the API token; else REPLICATE_API_TOKEN")
    asked = parser.parse_args(arguments)
    # Prefect has set up logging by now, and lets nothing of ours through.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app = create_app(replicate_receiver(sandbox=asked.sandbox, credentials=asked.credentials))
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # No access log: a query may carry what somebody put into the webhook's address to recognise it.
    uvicorn.run(app, host=asked.host, port=asked.port, access_log=False, limit_concurrency=MOST_AT_ONCE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
