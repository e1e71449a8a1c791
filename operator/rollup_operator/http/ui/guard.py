"""Stands before every page: refuses what other sites send, makes pages of errors, sets the headers for browsers."""

from collections.abc import Mapping
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.explaining.text import sentence
from rollup_operator.http.access.authentication import Handler
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui.rendering import page
from rollup_operator.http.ui.sessions import PATH, cookie

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from elsewhere, nothing inline: what a tenant may smuggle into a page stays text."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none, browsers say `Origin: null` of our own forms, too
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

TITLES: Mapping[int, str] = {
    401: "Please log in",
    403: "Not allowed",
    404: "Not found",
    429: "Too many requests",
    503: "Not now",
}

PART = "part"
"""Parameter of a request for a part of a page, which a script makes to keep the page up to date."""


def guard() -> Middleware:
    """Return the middleware. It has no part in what is not below `/ui/`."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(PATH):
            return await handler(request)
        try:
            if request.method == "POST" and not is_same_origin(request):
                raise foreign_request()
            response = await handler(request)
        except ApiError as e:
            response = _refusal(request, e)
        except web.HTTPNotFound:
            response = _refusal(request, errors.no_such_route(request.method, request.path_qs))
        except web.HTTPMethodNotAllowed as e:
            allowed = list(e.allowed_methods)
            response = _refusal(request, errors.method_not_allowed(request.method, request.path_qs, allowed))
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return guarded


def is_same_origin(request: web.Request) -> bool:
    """Whether a page of ours, or the user, makes this request, as far as the browser says so.

    A client that says nothing of that is no browser: it has no cookie but what it was given on purpose.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.host


def foreign_request() -> ApiError:
    """403: the form does not come from a page of this session."""
    return ApiError(
        403,
        "security_exception",
        "this form does not come from a page of your session; nothing was changed. Open the page again and repeat it",
    )


def takes_json(request: web.Request) -> bool:
    """Whether a script asks, which shows the answer on the page that is open."""
    return "application/json" in request.headers.get("Accept", "")


def _refusal(request: web.Request, error: ApiError) -> web.Response:
    if takes_json(request):
        return _with_headers(web.json_response({"message": reason_of(error)}, status=error.status), error)
    if error.status == 401 and request.method in ("GET", "HEAD") and PART not in request.query:
        return _to_login(request)
    title = TITLES.get(error.status, "That did not work")
    path = request.rel_url.raw_path
    back = path.rpartition("/")[0] if request.method == "POST" and "/jobs/" in path else ""
    values = {"title": title, "reason": reason_of(error), "code": error.status, "back": back}
    return _with_headers(page("error.html", status=error.status, **values), error)


def _with_headers(response: web.Response, error: ApiError) -> web.Response:
    for name, value in error.headers.items():
        if name != "WWW-Authenticate":  # a browser would ask for a password
            response.headers[name] = value
    if error.closes:
        response.force_close()
    return response


def reason_of(error: ApiError) -> str:
    """Return the sentences of an error for a page: what happened, and what lies behind it."""
    if error.status == 401:
        return "Your session has ended."
    behind = (error.caused_by or {}).get("reason", "")
    return " ".join(sentence(text) for text in (error.reason, behind) if text)


def _to_login(request: web.Request) -> web.Response:
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and cookie(request) is None:
        # A browser leaves the cookie out of what another site's link leads to. The page itself asks again, with it.
        response = page("again.html")
    else:
        ended = "&ended" if cookie(request) is not None else ""
        response = web.Response(status=303, headers={"Location": f"{PATH}login?next={quote(request.path_qs)}{ended}"})
    response.force_close()  # strangers hold no connections
    return response
