"""The web application around a booth.

Only this machine reaches it, and only its own page can vote: another page in the same browser sends another origin, and
a foreign name that was made to point here sends another host.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ops.errors import AmalgamError
from ops.generate.preference.exports import as_table, parquet_bytes
from pipelines.voting.booth import Booth, rater_of

STATIC = Path(__file__).parent / "static"
FILES = {"/": "voting.html", "/voting.css": "voting.css", "/voting.js": "voting.js"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def voting_app(booth: Booth) -> Starlette:
    """Return the application that shows `booth`.

    Handlers never wait, so one runs after the other on the event loop: votes need no lock.
    """

    async def about(request: Request) -> Response:
        return JSONResponse(booth.about())

    async def show(request: Request) -> Response:
        rater = rater_of((await _body(request)).get("rater"))
        return JSONResponse(booth.show(rater))

    async def vote(request: Request) -> Response:
        body = await _body(request)
        rater = rater_of(body.get("rater"))
        booth.vote(rater, str(body.get("ticket")), str(body.get("choice")))
        return JSONResponse(booth.show(rater))

    async def undo(request: Request) -> Response:
        rater = rater_of((await _body(request)).get("rater"))
        booth.undo(rater)
        return JSONResponse(booth.show(rater))

    async def image(request: Request) -> Response:
        return Response(
            booth.picture(request.path_params["ticket"], request.path_params["place"]), media_type="image/png"
        )

    async def parquet(request: Request) -> Response:
        return _download(parquet_bytes(booth.store.votes()), f"{booth.plan.study_id}.parquet")

    async def as_json(request: Request) -> Response:
        rows = as_table(booth.store.votes()).to_pylist()
        text = json.dumps(rows, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        return _download(text.encode(), f"{booth.plan.study_id}.json")

    return Starlette(
        routes=[
            *(Route(path, _file(STATIC / name)) for path, name in FILES.items()),
            Route("/about", about),
            Route("/show", show, methods=["POST"]),
            Route("/vote", vote, methods=["POST"]),
            Route("/undo", undo, methods=["POST"]),
            Route("/image/{ticket}/{place}", image),
            Route("/export.parquet", parquet),
            Route("/export.json", as_json),
        ],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=_with_headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False),
        ],
        exception_handlers={AmalgamError: _refused},
    )


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request from this page; HTTPException for any other."""
    if request.headers.get("origin") != f"http://{request.headers['host']}":
        raise HTTPException(403, "only the page of this server can vote")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        body = await request.json()
    except ValueError:
        raise HTTPException(400, "this is no JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "send a JSON object")
    return body


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AmalgamError)
    return JSONResponse({"message": error.message, "remedy": error.remedy}, status_code=400)


async def _with_headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call(request)
    response.headers.update(HEADERS)
    return response


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return FileResponse(path)

    return send


def _download(content: bytes, name: str) -> Response:
    kind = "application/json" if name.endswith(".json") else "application/vnd.apache.parquet"
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
