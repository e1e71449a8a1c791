"""The endpoint's certificate: a pair that cannot be read yet is read again."""

import contextlib
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from structlog.testing import capture_logs

from rollup_operator.http.listener.tls import Certificate
from support.store_front import Authority, Pair

USED = "new certificate in use"
REFUSED = "new certificate cannot be used, the one before stays"


@contextlib.contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """As in a process that has as many files open as it may."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_new_pair_that_could_not_be_opened_is_used_later_without_another_change(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    first, second = authority.issue("first"), authority.issue("second")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"

    def show(pair: Pair) -> None:
        for source, target in zip((pair.certificate, pair.key), files, strict=True):
            shutil.copy(source, new := target.with_suffix(".new"))
            new.replace(target)

    show(first)
    certificate = Certificate(*files)
    show(second)
    with capture_logs() as logs:
        with no_file_can_be_opened():
            certificate.refresh()
            certificate.refresh()
        certificate.refresh()
        certificate.refresh()
    assert [line["event"] for line in logs] == [REFUSED, USED]


def test_replicas_with_the_same_key_have_the_same_secret_until_the_key_is_another(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    first, second = authority.issue("first"), authority.issue("second")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    for source, target in zip((first.certificate, first.key), files, strict=True):
        shutil.copy(source, target)
    one, other = Certificate(*files), Certificate(first.certificate, first.key)
    assert one.key_digest == other.key_digest != b""
    for source, target in zip((second.certificate, second.key), files, strict=True):
        shutil.copy(source, target)
    one.refresh()
    assert one.key_digest == Certificate(second.certificate, second.key).key_digest != other.key_digest
