"""What a cookie holds: nobody but the operator reads or changes it."""

import base64
import contextlib
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.http.ui.sealing import Seal

SEAL = Seal(b"a secret")


@given(st.text(max_size=3000))
def test_what_is_sealed_comes_back(text: str) -> None:
    assert SEAL.open(SEAL.seal(text)) == text


@given(st.text(alphabet="0123456789abcdef", min_size=16, max_size=2000))
def test_it_shows_nothing_of_the_text_and_is_never_the_same(text: str) -> None:
    one, other = SEAL.seal(text), SEAL.seal(text)
    assert text not in one
    assert one != other
    assert re.fullmatch("[A-Za-z0-9_-]+", one)


def test_it_holds_the_text_in_no_form_that_others_can_read() -> None:
    sealed = SEAL.seal("token-of-ann" * 9)
    whole = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for begin in range(len(whole)):
        with contextlib.suppress(zlib.error):
            assert b"token" not in zlib.decompressobj().decompress(whole[begin:])


def test_any_change_is_noticed() -> None:
    sealed = SEAL.seal("token-of-ann")
    whole = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert SEAL.open(base64.urlsafe_b64encode(changed).decode().rstrip("=")) is None
    assert SEAL.open(base64.urlsafe_b64encode(whole[:-1]).decode()) is None


@pytest.mark.parametrize("cookie", ["", "x", "AAAA", "A" * 4000, "é", "Bearer ann", "A" * 96])
def test_what_nobody_sealed_opens_to_nothing(cookie: str) -> None:
    assert SEAL.open(cookie) is None


def test_another_secret_opens_nothing_and_makes_other_marks() -> None:
    other = Seal(b"another secret")
    assert other.open(SEAL.seal("token")) is None
    assert other.mark("x") != SEAL.mark("x") == Seal(b"a secret").mark("x")


def test_a_long_token_of_ordinary_characters_gets_shorter_than_in_base64() -> None:
    token = base64.urlsafe_b64encode(bytes(range(256)) * 9).decode()
    assert len(SEAL.seal(token)) < len(token) * 1.1
