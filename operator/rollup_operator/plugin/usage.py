"""What is said of a command line that cannot be read."""

import difflib
from collections.abc import Sequence

import typer

from rollup_operator.plugin.options import COMMAND
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.output import Format, Output, say


def usage(output: Output, error: typer.TyperException) -> int:
    """Report an error of the command line, with the option that was meant, and return the exit code."""
    context = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "")
    if context is not None and message == context.get_help():
        say(message, err=True, keep="\n")  # there was no command
        return Code.USAGE
    path = context.command_path if context is not None else COMMAND
    if option := getattr(error, "option_name", None):
        near = difflib.get_close_matches(option, getattr(error, "possibilities", None) or (), n=1)
        if near:
            message = f"no such option: {option}. Did you mean {near[0]}?"
    end = "" if message.endswith((".", "?")) else "."
    return output.failure(Failure(Code.USAGE, "Usage", f"{message}{end} See: {path} --help"))


def asked_format(arguments: Sequence[str]) -> str:
    """Find out in which format errors are wanted when the command line cannot be read."""
    for index, word in enumerate(arguments):
        if word in ("-o", "--output"):
            return "".join(arguments[index + 1 : index + 2])
        for flag in ("--output=", "-o=", "-o"):
            if word.startswith(flag):
                return word.removeprefix(flag)
    return Format.TEXT
