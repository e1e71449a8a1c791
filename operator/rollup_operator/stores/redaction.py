"""Removes credentials from the error texts of peers, because some repeat a request or a part of it.

A secret is found as it is, as base64 of it alone or of a text around it, and as it is written in a URL, in JSON and
in HTML. A text that shows a secret only after decoding is hidden as a whole.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

LONGEST = 4096
"""Characters of a text that are checked: the rest is cut off before."""

_SHORTEST = 4
"""Characters of a secret: each text has shorter ones in it by chance."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_DECODINGS = 2
"""How often a text is decoded."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """Knows the secrets of one client."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    _forms: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, secrets: Iterable[str]) -> "Redactor":
        """Return one that hides these."""
        known = tuple(sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True))
        forms = {form for secret in known for form in _forms(secret) if len(form) >= _SHORTEST}
        return cls(known, tuple(sorted(forms, key=len, reverse=True)))

    def __call__(self, text: str) -> str:
        """Return a text without them, cut to LONGEST behind one of its words."""
        if len(text) > LONGEST:
            # A secret that the cut goes through would not be found: the word with it goes, too.
            text = text[:LONGEST].rpartition(" ")[0]
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        if any(secret in decoded for decoded in _decoded(text) for secret in self.secrets):
            return f"{HIDDEN} (a text with credentials in it)"
        return text


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms of a secret in a text that repeats it."""
    yield secret
    for text in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield text
        yield re.sub("%..", lambda found: found[0].lower(), text)
    for text in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield text
        yield text.replace("/", "\\/")
    yield html.escape(secret)
    raw = secret.encode()
    for before in range(3):
        # Of a text around it, the letters that depend on nothing but the secret.
        whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        begin = (0, 2, 3)[before]
        inner = whole[begin : len(whole) - (1 if (before + len(raw)) % 3 else 0)]
        if len(inner) >= 2 * _SHORTEST:
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))


def _decoded(text: str) -> Iterator[str]:
    """Yield what a text may stand for, where it is encoded once or twice."""
    seen, level = {text}, [text]
    for _ in range(_DECODINGS):
        level = [made for made in {decode(each) for each in level for decode in _DECODERS} if made not in seen]
        seen.update(level)
        yield from level


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]


_DECODERS: tuple[Callable[[str], str], ...] = (unquote, unquote_plus, html.unescape, _unescape)
