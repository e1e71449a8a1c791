"""HTTP sessions that send each request once.

aiohttp sends a PUT, DELETE or GET again, unseen, when a kept connection breaks. The first may have been carried out: a
deletion is then answered 404, and a write conflicts with itself. The sender must learn of the broken connection.
"""

from typing import Any

import aiohttp

from rollup_operator.net.aiohttp_private.client import send_once


def client_session(**options: Any) -> aiohttp.ClientSession:
    """Open a session with aiohttp's `options` that repeats nothing; the caller closes it."""
    session = aiohttp.ClientSession(**options)
    send_once(session)
    return session


async def repeat_read(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """As a middleware: send a GET once more when its connection breaks before the answer.

    The server closes idle connections, and may do so while a request is on its way. A read changes nothing, so
    nobody needs to know of it. Use it innermost, after the middleware that logs in.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # there is no server, rather than an old connection to it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        if request.method != "GET":
            raise
        return await handler(request)
