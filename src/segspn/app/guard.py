"""Who may talk to the server: checked before anything else looks at a request."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "segspn-token"
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS = {
    # The page is its own files and pictures made from fetched bytes; nothing from elsewhere.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """The address served on, and the token that a browser must show (None: none)."""

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    @classmethod
    def to(cls, host: str, token: str | None) -> Access:
        """As asked for, with a random token where others than this machine can connect."""
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        return cls(host, token)

    def allows_host(self, header: str) -> bool:
        """Whether a request's Host header names this server.

        A page elsewhere can have its own name resolve to 127.0.0.1 (DNS rebinding); the header then
        still holds that name.
        """
        name = urlsplit(f"//{header}").hostname or ""
        if name == "localhost" or is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        return _is_address(name) or name in (self.host.lower(), socket.gethostname().lower())

    def allows_token(self, given: str) -> bool:
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine alone."""
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware that refuses strangers: other hosts, other sites' requests, no token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refuse(scope)
        await (refused or self._app)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.allows_host(host):
            return _told(403, "this address is not the one the app was started on")
        # Browsers send Origin with every request that can change something.
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _told(403, "requests from other sites are refused")
        # Asked for by another site's page: only opening the front page itself is harmless.
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and (scope["path"], scope["method"]) != ("/", "GET"):
            return _told(403, "requests from other sites are refused")
        return self._ask_for_token(scope, headers)

    def _ask_for_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._access.token is None:
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and self._access.allows_token(cookie.value):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] in _SAFE and self._access.allows_token(given):
            # Away from the address bar and the history, into a cookie no script can read.
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return answer
        return _told(401, "open the address with ?token=... that the terminal shows")


def _told(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)
