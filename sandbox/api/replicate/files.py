"""Uploaded files of the emulated Replicate API, and the delivery of finished weights."""

import base64
import hashlib
import hmac
import shutil
import uuid
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from sandbox import documents
from sandbox.accounts import find_account
from sandbox.api.replicate.call import Call, Caller
from sandbox.api.replicate.errors import not_found, problem, refuse
from sandbox.api.replicate.pages import page
from sandbox.core import Sandbox, put_bytes
from sandbox.dialects import answer
from sandbox.jsontext import parsed
from sandbox.replicate.inputs import file_path, find_file
from sandbox.replicate.views import file_view, is_removed
from sandbox.replicate.webhooks import signing_secret
from sandbox.replicate.words import FILE, TRAINING
from sandbox.storage import serve_file
from sandbox.store import Row

router = APIRouter()


@router.post("/v1/files", status_code=201)
async def create_file(call: Caller, request: Request) -> Response:
    """Keep an uploaded file for a while."""
    async with request.form() as form:
        part = form.get("content") or form.get("upload")
        if not isinstance(part, UploadFile):
            raise refuse(400, "Missing content")
        content, about = await part.read(), await _about(form, part)
    if len(content) > call.settings.max_file_bytes:
        return answer({"detail": "Files must be less than 100MB in size"}, 413)
    row = await run_sync(_kept, call, content, about)  # disk and database: not on the event loop
    return answer(file_view(row, call.base_url), 201)


async def _about(form: FormData, part: UploadFile) -> dict[str, Any]:
    """Return name, type and metadata, however this client's generation sends them."""
    given = form.get("metadata")
    text = (await given.read()).decode("utf-8", "replace") if isinstance(given, UploadFile) else given
    try:
        metadata = parsed(text) if text else {}
    except ValueError:
        raise refuse(422, "metadata is not valid JSON") from None
    name, kind = form.get("filename") or part.filename or "file", form.get("type") or part.content_type
    return {"name": str(name), "type": str(kind or "application/octet-stream"), "metadata": metadata}


def _kept(call: Call, content: bytes, about: dict[str, Any]) -> Row:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    data = {
        "content_type": about["type"],
        "size": len(content),
        "etag": md5,
        "checksums": {"sha256": hashlib.sha256(content).hexdigest(), "md5": md5},
        "metadata": about["metadata"],
        "expires_at": call.now_s + call.settings.file_ttl_s,
        "base_url": call.base_url,
    }
    file_id = base64.urlsafe_b64encode(uuid.uuid4().bytes + uuid.uuid4().bytes[:4]).decode().rstrip("=")
    put_bytes(call.sandbox.object_path(call.account.id, "replicate", file_id, "content"), content)
    with call.sandbox.store.write() as tx:
        return documents.add(tx, call.account, FILE, id=file_id, data=data, name=about["name"], at_s=call.now_s)


@router.get("/v1/files")
def list_files(call: Caller) -> dict[str, Any]:
    """Answer a page of the files that have not expired."""
    with call.sandbox.store.read() as tx:
        rows = [row for row in documents.listed(tx, call.account, FILE) if row["data"]["expires_at"] > call.now_s]
    return page(call, rows, lambda row: file_view(row, call.base_url))


@router.get("/v1/files/{file_id}")
def get_file(call: Caller, file_id: str) -> dict[str, Any]:
    """Answer what is known of a file."""
    return file_view(_found(call, file_id), call.base_url)


@router.delete("/v1/files/{file_id}", status_code=204)
def delete_file(call: Caller, file_id: str) -> Response:
    """Remove a file."""
    row = _found(call, file_id)
    with call.sandbox.store.write() as tx:
        documents.remove(tx, row)
    shutil.rmtree(file_path(call.sandbox, row).parent, ignore_errors=True)
    return Response(status_code=204)


@router.get("/v1/files/{file_id}/download")
def download_file(call: Caller, file_id: str) -> Response:
    """Serve a file to a caller whose link is signed and has not expired."""
    row, given = _found(call, file_id), call.request.query_params
    owner, expiry = given.get("owner", ""), given.get("expiry", "")
    secret = signing_secret(call.sandbox, call.account)
    wanted = download_signature(secret, owner, file_id, expiry)
    if not hmac.compare_digest(wanted.encode(), given.get("signature", "").encode()):
        raise refuse(403, "The signature is invalid.")
    if not (expiry.isascii() and expiry.isdigit()) or int(expiry) <= call.now_s:
        raise refuse(403, "The link has expired.")
    return serve_file(call.request, file_path(call.sandbox, row), call.account)


def download_signature(secret: str, owner: str, file_id: str, expiry: str) -> str:
    """Return the signature of a download link."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.new(key, f"{owner} {file_id} {expiry}".encode(), hashlib.sha256).digest()).decode()


def _found(call: Call, file_id: str) -> Row:
    with call.sandbox.store.read() as tx:
        row = find_file(call.sandbox, tx, call.account, file_id)
    if row is None:
        raise not_found("file")
    return row


@router.get("/delivery/{account_id}/{training_id}/{name}")
def deliver(request: Request, account_id: str, training_id: str, name: str) -> Response:
    """Serve finished weights to whoever knows their address, as long as they are kept."""
    sandbox: Sandbox = request.app.state.sandbox
    with sandbox.store.read() as tx:
        account = find_account(tx, account_id)
        row = None if account is None else documents.find(tx, account, TRAINING, training_id)
    is_there = row is not None and row["data"].get("weights") == name
    if account is None or row is None or not is_there or is_removed(sandbox, account, row):
        return problem(404, "The requested file could not be found.")
    path = sandbox.object_path(account_id, "replicate", training_id, name)
    if not path.is_file():  # swept when it was not kept any more, whatever the settings say now
        return problem(404, "The requested file could not be found.")
    return serve_file(request, path, account)
