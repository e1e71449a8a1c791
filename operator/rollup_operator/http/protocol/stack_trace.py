"""Where in the program an error comes from, for callers who ask with `error_trace`.

Only our own frames are named, by module, function and line: no value of a variable, and no path of the machine.
"""

from types import TracebackType

PACKAGE = "rollup_operator"

MOST_FRAMES = 50


def frames(error: BaseException) -> str:
    """Return the frames that the error has gone through, the one that raised it first, a line each."""
    found = []
    at: TracebackType | None = error.__traceback__
    while at is not None:
        module = at.tb_frame.f_globals.get("__name__", "")
        if module.split(".")[0] == PACKAGE:
            found.append(f"\n\tat {module}.{at.tb_frame.f_code.co_qualname}(line {at.tb_lineno})")
        at = at.tb_next
    return "".join(reversed(found[-MOST_FRAMES:]))
