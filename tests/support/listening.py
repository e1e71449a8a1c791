"""How a server that a test runs ceases to listen."""

import asyncio

_STEPS = 3
"""Turns of the loop from accepting a connection to handing it to the server."""


async def stop_listening(server: asyncio.Server) -> None:
    """Take no further connection. Those that are accepted already have begun when this returns.

    asyncio drops a connection without closing it where the server is closed before it is handed over.
    """
    loop = asyncio.get_running_loop()
    for socket in server.sockets:
        loop.remove_reader(socket.fileno())
    for _ in range(_STEPS):
        await asyncio.sleep(0)
    server.close()
