"""What this operator uses of aiohttp beyond what its documentation promises. No other module may.

What clients need stands apart from what a server needs: `kubectl rollup` is quicker without `aiohttp.web`.

| part | what for |
| --- | --- |
| `ClientSession._retry_connection` | a request is sent once: aiohttp would repeat a write unseen |
| `TCPConnector._release`, `_conns` | connections that only a storm needed end, and free their memory |
| `TCPConnector.connect`, `Connection.protocol` | a cut-off request is over once the node has closed its end |
| `web.RequestHandler`, its arguments, `_messages`, `handle_error`, `log_exception` | limits for each connection |
| `web.BaseSite._runner`, `_ssl_context`, `_server` | connections are accepted in our own way: no flood stops us |
| `Server.request_handler`, `writer.output_size` | `Expect` is met after the caller is known |
| `feed_eof` of a request's body | a body that cannot be inflated is not read to its end |

Any minor version of aiohttp may change these, so pyproject.toml allows only the versions that they were tested on. To
allow another one: install it, run `make test TESTS='tests/unit tests/security'`, then change TESTED and pyproject.toml.
"""

TESTED = ">=3.14,<3.15"
"""Versions of aiohttp."""
