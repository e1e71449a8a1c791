"""Names as the API server takes them: of objects (DNS subdomains) and of namespaces (DNS labels).

What is such a name can stand in a path, as a file's name and in a log as it is: it has no slash, no dots in a row,
no percent sign and nothing but lower case letters, digits, `-` and `.`.
"""

import re
from typing import Annotated

from pydantic import StringConstraints

LONGEST_NAME = 253
LONGEST_NAMESPACE = 63

_LABEL = r"[a-z0-9]+(-+[a-z0-9]+)*"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_NAME_ALONE = re.compile(_NAME)
_LABEL_ALONE = re.compile(_LABEL)

NAME_PATTERN = f"^{_NAME}$"

EVERY = frozenset({"_all", "*"})
"""The names that mean every job and every index in the API, so none can have them."""

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=NAME_PATTERN)]
"""A field of a resource that names an object."""


def is_name(text: str) -> bool:
    """Whether an object can have this name."""
    return len(text) <= LONGEST_NAME and _NAME_ALONE.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Whether a namespace can have this name."""
    return len(text) <= LONGEST_NAMESPACE and _LABEL_ALONE.fullmatch(text) is not None
