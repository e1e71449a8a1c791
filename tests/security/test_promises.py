"""The numbers of docs/security.md are those that the operator keeps to."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from rollup_operator.concurrency.portions import PORTION_SECONDS
from rollup_operator.http.access import audit, bodies
from rollup_operator.http.api import capabilities, preview, purge, verify
from rollup_operator.http.jobs import repeats
from rollup_operator.http.listener import admission, scrape
from rollup_operator.http.protocol import filter_path, positioned_json
from rollup_operator.http.ui.sessions import SESSION_SECONDS
from rollup_operator.kube import authz
from rollup_operator.model import status
from rollup_operator.settings import Settings
from rollup_operator.stores.duckdb.source import headers
from rollup_operator.stores.duckdb.statements.columns import LONGEST_TEXTS

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
MIB = 2**20

ROWS: dict[str, list[float]] = {
    "connections of unknown callers": [admission.STRANGERS, admission.CROWDED_SECONDS],
    "connections of one address": [admission.UNKNOWN_AT_ONCE, admission.UNKNOWN_A_SECOND],
    "paths of a `filter_path`": [
        filter_path.MOST_PATHS,
        filter_path.MOST_NAMES,
        filter_path.MOST_ANY_DEPTH,
        400,
    ],
    "comparisons of names": [filter_path.MOST_STEPS, 400],
    "token reviews": [authz.USERS_AT_ONCE, 429, authz.TOKENS_WAITING],
    "access reviews": [authz.RIGHTS_AT_ONCE, 429, authz.RIGHTS_WAITING],
    "denials": [authz.DENIED_AT_ONCE, authz.DENIED_A_SECOND, 429],
    "purges": [purge.AT_ONCE, purge.TURN_SECONDS, 429, purge.WAITING],
    "previews": [preview.AT_ONCE],
    "verifications": [verify.AT_ONCE],
    "values in the JSON of a job": [positioned_json.MOST_VALUES, 400],
    "parsing of bodies": [bodies.LARGE / 1024, bodies.LARGE_JOB / 1024, bodies.REST, 429],
    "remembered calls": [repeats.LIMIT],
}
"""By how a row of a table begins, its numbers."""

DEFAULTS = Settings()

SENTENCES = [
    f"granted rights for {DEFAULTS.allowed_cache_seconds:g} s (`ROLLUP_ALLOWED_CACHE_SECONDS`)",
    f"missing rights for {DEFAULTS.denied_cache_seconds:g} s (`ROLLUP_DENIED_CACHE_SECONDS`)",
    f"more than {authz.NAMES_FREE} denied jobs, denials count for up to a minute",
    f"does not answer within {authz.REVIEW_SECONDS:g} s, the answer is 503",
    f"until the token expires, or for {SESSION_SECONDS / 3600:g} hours",
    f"every {DEFAULTS.tls_check_seconds:g} s (`ROLLUP_TLS_CHECK_SECONDS`)",
    f"metrics and probes has {scrape.LIMITS.connections} connections",
    f"had a right to, at most {audit.MOST_RESOURCES}",
    f"takes turns of {PORTION_SECONDS * 1000:g} ms",
    f"at most {authz.RIGHTS_OF_ONE:,} rights and {authz.TOKENS_OF_ONE:,} tokens of one user",
    f"a message ends after {status.LONGEST_MESSAGE} characters",
    f"each term of a position after {status.LONGEST_VALUE}",
    f"an inspection after {headers.HEAD // MIB} MiB and footers of {headers.MOST_FOOTER // MIB} MiB",
    f"of a bucket have more than {LONGEST_TEXTS:,} bytes",
]


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"(?<![\w.])\d[\d,]*", text)]


@pytest.mark.parametrize("row", ROWS)
def test_a_limit_is_as_the_table_says(row: str) -> None:
    (line,) = (line for line in DOCS.splitlines() if line.startswith(f"| {row}"))
    assert numbers(re.sub(r"\(.*?\)", "", line)) == ROWS[row]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_number_is_as_the_text_says(sentence: str) -> None:
    assert sentence in re.sub(r"\s+", " ", DOCS)


def test_limits_that_share_a_line_are_alike() -> None:
    for other in (preview, verify):  # the tables say of them what they say of purges, or "the same"
        assert (other.TURN_SECONDS, other.WAITING) == (purge.TURN_SECONDS, purge.WAITING)
    assert filter_path.MOST_STEPS == capabilities.MOST_STEPS
    assert (status.LONGEST_REQUEST, authz.LONGEST_DENIED) == (status.LONGEST_VALUE, 60)
    assert "| connections of one user | five of six |" in DOCS
    assert Fraction(admission.GENEROSITY / (1 + admission.GENEROSITY)).limit_denominator(10) == Fraction(5, 6)
