"""The differences between versions of Elasticsearch, in one table. The setting `compat_version` picks the row.

Each field is a fact that some call needs; no call compares version numbers itself.
"""

from dataclasses import dataclass

DEFAULT = 8


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one version speaks."""

    number: str
    """What `GET /` shows; clients read its first part."""
    lucene: str
    """The version of Lucene in it. Typed clients fail without one."""
    minimum_wire: str
    minimum_index: str
    start_needs_stopped: bool
    """A start of a job that is started, or indexing, is an error."""
    timeout_tells_state: bool
    """The text of a stop's timeout ends with `State was [..]`."""
    refuses_negative_times: bool
    """Time values below -1 are an error."""
    time_value_error: str
    """Type of the error for a time value without a unit."""
    unknown_field_error: str
    """Type of the error for a field that a body may not have."""
    malformed_json_error: str
    """Type of the error for a body that is no JSON."""
    shows_upgraded_ids: bool
    """A job's status has `upgraded_doc_id`."""
    shows_processing_stats: bool
    """A job's stats have `processing_time_in_ms` and `processing_total`."""
    shows_legacy_interval: bool
    """A date histogram's length is shown as `interval`, not as `fixed_interval` or `calendar_interval`."""
    counts_jobs: bool
    """The usage has `number_of_rollup_jobs`."""


DIALECTS = {
    6: Dialect(
        number="6.8.23",
        lucene="7.7.3",
        minimum_wire="5.6.0",
        minimum_index="5.0.0",
        start_needs_stopped=True,
        timeout_tells_state=False,
        refuses_negative_times=False,
        time_value_error="parse_exception",
        unknown_field_error="illegal_argument_exception",
        malformed_json_error="json_parse_exception",
        shows_upgraded_ids=True,
        shows_processing_stats=False,
        shows_legacy_interval=True,
        counts_jobs=False,
    ),
    7: Dialect(
        number="7.17.28",
        lucene="8.11.3",
        minimum_wire="6.8.0",
        minimum_index="6.0.0-beta1",
        start_needs_stopped=True,
        timeout_tells_state=True,
        refuses_negative_times=True,
        time_value_error="illegal_argument_exception",
        unknown_field_error="x_content_parse_exception",
        malformed_json_error="json_parse_exception",
        shows_upgraded_ids=True,
        shows_processing_stats=True,
        shows_legacy_interval=False,
        counts_jobs=False,
    ),
    8: Dialect(
        number="8.17.0",
        lucene="9.12.0",
        minimum_wire="7.17.0",
        minimum_index="7.0.0",
        start_needs_stopped=False,
        timeout_tells_state=True,
        refuses_negative_times=True,
        time_value_error="illegal_argument_exception",
        unknown_field_error="x_content_parse_exception",
        malformed_json_error="x_content_parse_exception",
        shows_upgraded_ids=False,
        shows_processing_stats=True,
        shows_legacy_interval=False,
        counts_jobs=True,
    ),
    9: Dialect(
        number="9.0.0",
        lucene="10.1.0",
        minimum_wire="8.18.0",
        minimum_index="8.0.0",
        start_needs_stopped=False,
        timeout_tells_state=True,
        refuses_negative_times=True,
        time_value_error="illegal_argument_exception",
        unknown_field_error="x_content_parse_exception",
        malformed_json_error="x_content_parse_exception",
        shows_upgraded_ids=False,
        shows_processing_stats=True,
        shows_legacy_interval=False,
        counts_jobs=True,
    ),
}
"""By major version: the ones that `compat_version` takes."""
