"""A link that opens Ray's dashboard logged in, for as long as a search runs.

Ray's dashboard takes its token from a cookie, which its own page sets once one has typed it in.
Cookies are a host's, not a port's: here a page on another port of this machine sets it, and leads
on. The link is as secret as the token, so it is for a terminal, and not for a log.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

LOCAL = "127.0.0.1"


class Door:
    """Serves one page on this machine; :meth:`close` ends that.

    Attributes:
        url: To be opened in a browser on this machine.
    """

    def __init__(self, dashboard: str, cookie: str, token: str) -> None:
        path = f"/{secrets.token_urlsafe()}"

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not secrets.compare_digest(self.path.encode(), path.encode()):
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                self.send_response(HTTPStatus.FOUND)
                self.send_header("Location", dashboard)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                kept = "Path=/; HttpOnly; SameSite=Strict"
                self.send_header("Set-Cookie", f"{cookie}={token}; {kept}")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing: the path is a secret."""

        self._server = ThreadingHTTPServer((LOCAL, 0), Page)
        self._thread = Thread(target=self._server.serve_forever, name="door", daemon=True)
        self._thread.start()
        self.url = f"http://{LOCAL}:{self._server.server_port}{path}"

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()


def door_to(dashboard: str) -> Door | None:
    """A door to Ray's dashboard on this machine; None where it is elsewhere, or has no lock."""
    from ray._private.authentication import authentication_constants, authentication_utils
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    here = urlsplit(dashboard).hostname == LOCAL
    if not here or not authentication_utils.is_token_auth_enabled():
        return None
    token = AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
    return Door(dashboard, authentication_constants.AUTHENTICATION_TOKEN_COOKIE_NAME, token)
