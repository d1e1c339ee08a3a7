# SPDX-License-Identifier: Apache-2.0
"""A server on this machine, for commands that ask one."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Status(Exception):
    """Raised by a function of ``serving``: the server answers with this error."""

    def __init__(self, code: int, body) -> None:
        super().__init__(code)
        self.code, self.body = code, body


@contextlib.contextmanager
def serving(answers, token=None):
    """A server on a free port of the loopback.

    Args:
        answers: path -> function of the request; "GET /path" -> what is there.
        token: what it wants as a bearer token.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made = answers.get(self.path)
            self.reply(lambda: made(asked) if made else None)

        def do_GET(self):
            self.reply(lambda: answers.get(f"GET {self.path}"))

        def reply(self, make):
            code, body = 200, None
            try:
                if token and self.headers.get("Authorization") != f"Bearer {token}":
                    raise Status(401, {"error": {"message": "who are you?"}})
                body = make()
                if body is None:
                    raise Status(404, {"error": "no such path"})
            except Status as error:
                code, body = error.code, error.body
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
