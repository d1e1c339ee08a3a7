# SPDX-License-Identifier: Apache-2.0
"""The studio as an ASGI application. Imports fastapi when it is imported: load it inside the function that needs it."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loraforge import LoraForgeError, printable, speaker, why

from .gate import Gate
from .page.files import HEADERS, page_router
from .problems import Refused
from .routes import routers
from .routes.jobs import as_json
from .studio import Studio

say = speaker(__name__)
log = logging.getLogger("loraforge.studio")


class Plain(JSONResponse):
    """JSON in ASCII: names of files that are no UTF-8 have no other form."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return as_json(content).encode("ascii")


def create_app(studio: Studio) -> FastAPI:
    """The application of one studio."""
    app = FastAPI(title="LoRAForge", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, default_response_class=Plain)
    for router in (*routers(studio), page_router()):
        app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(LoraForgeError, _failed)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(RequestValidationError, _odd)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Gate, studio=studio)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Plain(error.body, error.status)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, LoraForgeError)
    return Plain({"problems": list(error.problems), "command": ""}, 422)


async def _system(request: Request, error: Exception) -> Response:
    """What the disk or the system refuses, wherever it does: a folder that was taken away, a full disk, a file of somebody else's."""
    assert isinstance(error, OSError)
    place = error.filename or request.scope["path"]
    text = say("{path}: {reason}.", path=printable(os.fsdecode(place) if isinstance(place, str | bytes) else str(place)), reason=why(error))
    gone = isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ENAMETOOLONG
    return Plain({"problems": [text], "command": ""}, 404 if gone else 403 if isinstance(error, PermissionError) else 507)


async def _odd(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = ["{}: {}".format(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()]
    return Plain({"problems": told, "command": ""}, 400)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Plain(
        {"problems": [say("there is nothing at {path}.", path=printable(request.scope["path"]))], "command": ""}, error.status_code
    )


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, printable(request.scope["path"]))  # uvicorn shows how
    text = say("the studio has failed at this; the terminal in which it was started says how. Nothing that was saved is lost.")
    return Plain({"problems": [text], "command": ""}, 500, headers=HEADERS)
