# SPDX-License-Identifier: Apache-2.0
"""The studio as an ASGI application. Imports fastapi when it is imported: load it inside the function that needs it."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loraforge import LoraForgeError, speaker

from .gate import Gate
from .page.files import page_router
from .problems import Refused
from .routes import routers
from .studio import Studio

say = speaker(__name__)
log = logging.getLogger("loraforge.studio")


def create_app(studio: Studio) -> FastAPI:
    """The application of one studio."""
    app = FastAPI(title="LoRAForge", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (*routers(studio), page_router()):
        app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(LoraForgeError, _failed)
    app.add_exception_handler(RequestValidationError, _odd)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Gate, studio=studio)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, LoraForgeError)
    return JSONResponse({"problems": list(error.problems), "command": ""}, 422)


async def _odd(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = ["{}: {}".format(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()]
    return JSONResponse({"problems": told, "command": ""}, 400)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"problems": [say("there is nothing at {path}.", path=request.url.path)], "command": ""}, error.status_code)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    text = say("the studio has failed at this; the terminal in which it was started says how. Nothing that was saved is lost.")
    return JSONResponse({"problems": [text], "command": ""}, 500)
