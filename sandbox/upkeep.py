"""Keeping a home from growing: files nothing refers to any more, and old rows of the request log."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select

from sandbox.core import Sandbox
from sandbox.documents import job_name, open_real
from sandbox.settings import KEPT_REQUESTS
from sandbox.store import datasets, documents, exports, requests, runs, versions
from sandbox.vendors import DIALECTS

_TRIM_EVERY = 500


def sweep(sandbox: Sandbox) -> None:
    """Remove what is past its time, and the files of what was deleted, never finished, or is never gone on with.

    Only while nothing else writes to this home.
    """
    for dialect in DIALECTS:
        dialect.expire(sandbox)
    with sandbox.store.read() as tx:
        known = {table: _known(tx, table, table.c.id) for table in (datasets, exports, versions)}
        training = _known(tx, runs, runs.c.id, runs.c.completed_at.is_(None))
        training |= {job_name(row) for row in open_real(tx) if not row["data"].get("stranded")}
        kept = {
            vendor: _known(tx, documents, documents.c.id, documents.c.kind.like(f"{vendor}.%"))
            for vendor in (dialect.name for dialect in DIALECTS)
        }
    _keep_only(sandbox.jobs, training)
    _keep_only(sandbox.home / "datasets", {f"{dataset_id}.zip" for dataset_id in known[datasets]})
    for account in _entries(sandbox.objects):
        _keep_only(account / "datasets", known[datasets])
        _keep_only(account / "exports", known[exports])
        _keep_only(account / "models", known[versions])
        for vendor, names in kept.items():
            _keep_only(account / vendor, names)


def trim_log(tx: Connection, newest_seq: int, kept: int = KEPT_REQUESTS) -> None:
    """Remove the oldest rows of the request log, now and then, so that it holds the newest of them alone."""
    if newest_seq % _TRIM_EVERY == 0:
        tx.execute(delete(requests).where(requests.c.seq <= newest_seq - kept))


def _known(tx: Connection, table: Table, column: Column[str], *wanted: ColumnElement[bool]) -> set[str]:
    return {str(value) for value in tx.execute(select(column).select_from(table).where(*wanted)).scalars()}


def _entries(folder: Path) -> Iterable[Path]:
    return list(folder.iterdir()) if folder.is_dir() else ()


def _keep_only(folder: Path, names: set[str]) -> None:
    for path in _entries(folder):
        if path.name in names:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
