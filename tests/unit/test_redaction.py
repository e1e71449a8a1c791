"""No credentials are left in what a peer says, however it repeats them."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.stores.redaction import LONGEST, Redactor

PASSWORD = 'pä/ss+w<o>rd "%41\\x'
TOKEN = "eyJhbGciOiJSUzI1NiJ9." + "QWxhZGRpbjpvcGVu" * 40 + ".c2ln"

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 of more": lambda s: base64.b64encode(f"Authorization: Basic {s} and more".encode()).decode(),
    "base64 of a little more": lambda s: base64.b64encode(f"u:{s}".encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(f"xx{s}y".encode()).decode(),
    "url": lambda s: quote(s, safe=""),
    "url in small letters": lambda s: quote(s, safe="").lower() if s.islower() else quote(s).replace("%C3", "%c3"),
    "form": quote_plus,
    "every letter": lambda s: "".join(f"%{b:02x}" for b in s.encode()),
    "json": json.dumps,
    "json of json": lambda s: json.dumps(json.dumps(s)),
    "json, all escaped": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "json with slashes": lambda s: json.dumps(s).replace("/", "\\/"),
    "html": html.escape,
    "html by numbers": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "html of a url": lambda s: html.escape(quote(s, safe="")),
    "url of json": lambda s: quote(json.dumps(s)),
}


def readable(text: str, secret: str) -> bool:
    """Whether a secret can still be got out of a text."""
    inner = base64.b64encode(secret.encode()).decode()[4:-4]
    return secret in text or inner in text or secret.lower() in text.lower()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [PASSWORD, TOKEN, "hunter2!"])
def test_a_secret_is_hidden_in_each_form(form: str, secret: str) -> None:
    shown = FORMS[form](secret)
    text = Redactor.of([secret])(f"GET / HTTP/1.1 x-header: {shown} host: y")
    assert "***" in text
    assert not readable(text, secret)
    assert shown not in text


def test_what_holds_no_secret_stays() -> None:
    text = 'index [a%20b] of "x" &amp; \\u00e4 failed: 100% full'
    assert Redactor.of([PASSWORD, TOKEN])(text) == text
    assert Redactor()(text) == text


def test_a_short_secret_makes_no_text_unreadable() -> None:
    assert Redactor.of(["a", ""])("a banana") == "a banana"


@given(st.integers(0, 2 * LONGEST), st.integers(1, 40))
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(before: int, blanks: int) -> None:
    text = Redactor.of([TOKEN])("x" * before + " " * blanks + TOKEN + "y" * LONGEST)
    assert len(text) <= LONGEST
    assert TOKEN[:24] not in text


def test_it_takes_no_longer_than_its_length() -> None:
    redactor = Redactor.of([TOKEN, TOKEN[:-1] + "x", PASSWORD])
    texts = [TOKEN[:-1] * 3_000, "%25" * 1_000_000, "\\u005c" * 500_000, "&amp;" * 500_000, " " * 3_000_000]
    began = time.process_time()
    for text in texts:
        redactor(text)
    assert time.process_time() - began < 0.5


def test_secrets_are_in_no_representation() -> None:
    assert "hunter2" not in repr(Redactor.of(["hunter2!"]))
