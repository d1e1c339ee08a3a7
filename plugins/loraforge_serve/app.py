# SPDX-License-Identifier: Apache-2.0
"""The server as an ASGI application. Imports fastapi when it is imported: load it inside the function that needs it."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loraforge import ConfigError, DataError, LoraForgeError, speaker

from .page.routes import page_router
from .problems import RequestError, error_body
from .routes.admin import admin_router
from .routes.chat import chat_router
from .routes.gate import Gate
from .routes.images import images_router
from .routes.models import models_router
from .server import Server

say = speaker(__name__)
log = logging.getLogger("loraforge.serve")


def create_app(server: Server) -> FastAPI:
    """The application that answers for ``server``."""
    app = FastAPI(title="LoRAForge", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.server = server
    server.metrics.watch(server.admission)
    for router in (models_router(server), chat_router(server), admin_router(server), images_router(server), page_router(server)):
        app.include_router(router)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(LoraForgeError, _failed)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Gate, server=server)
    if server.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, DataError | ConfigError) else 500  # what somebody wrote, or what happens here
    return JSONResponse(error_body(status, str(error), "failed"), status)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = say("there is nothing at {method} {path}.", method=request.method, path=request.url.path)
    return JSONResponse(error_body(error.status_code, text, "unknown_url"), error.status_code, headers=error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse(error_body(500, say("the server has failed; its log says how."), "internal_error"), 500)
