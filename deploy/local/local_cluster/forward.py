"""Carries connections between the machine's network and a node's, one process for each address that is carried.

It makes the listening socket in one network namespace and then moves into the other, where it dials.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16


def _network(pid: int | str) -> int:
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(network: int) -> None:
    """Move this process, which must have one thread, into a network."""
    if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _serve(listener: socket.socket, host: str, port: int) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))

    # Connections end with the process: there is nothing to finish.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
    await (await asyncio.start_server(carry, sock=listener)).serve_forever()


def main() -> int:
    """Carry connections until standard input closes; print the port that is listened on."""
    parser = argparse.ArgumentParser(description="Carry connections; started by local_cluster itself.")
    parser.add_argument("--pid", type=int, required=True, help="the node's first process")
    parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT", help="port 0 picks a free one")
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--inwards", action="store_true", help="listen in the node and dial on this machine")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    to_host, _, to_port = options.to.rpartition(":")
    listen_in, dial_in = _network("self"), _network(options.pid)
    if options.inwards:
        listen_in, dial_in = dial_in, listen_in
    _enter(listen_in)
    listener = socket.create_server((host, int(port)), backlog=512)
    _enter(dial_in)
    print(listener.getsockname()[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(listener, to_host, int(to_port)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
