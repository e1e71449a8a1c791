"""Which tests a kind of node cannot run, as it is here, and why: Maven has not all modules of Elasticsearch 8 and 9."""

from collections.abc import Mapping

_SCRIPT = "no Painless, by which the test makes a search slow"

_SCRIPTS = "no Painless, by which a run counts several values of a document once"
_RANDOM = "test_documents_of_random_indices_are_what_the_rows_come_to"
_PROCESSORS = "no processors of pipelines"

_MODULES: Mapping[str, str] = {
    "test_a_node_closes_its_end_when_it_has_read_that_the_client_hangs_up": _SCRIPT,
    "test_a_search_in_the_socket_of_a_frozen_node_is_over_before_the_cluster_counts_as_quiet": _SCRIPT,
    "test_a_search_ends_when_its_client_has_closed": _SCRIPT,
    "test_a_page_that_is_given_up_is_given_up_by_the_cluster": _SCRIPT,
    "test_numbers_are_groups_and_metrics-scaled_float": "no fields of the type scaled_float",
    "test_a_document_counts_once_in_a_bucket_however_many_of_its_numbers_are_in_it": _SCRIPTS,
    _RANDOM: _SCRIPTS,
    "test_pages_and_late_rows_of_several_values_count_once_too": _SCRIPTS,
    "test_a_preview_names_what_it_cannot_see": _SCRIPTS,
    "test_a_templates_pipelines_do_not_touch_a_rollup_index": _PROCESSORS,
    "test_a_default_pipeline_of_an_index_that_is_there_is_passed_by": _PROCESSORS,
    "test_a_final_pipeline_that_loses_documents_fails_the_run_and_is_named": _PROCESSORS,
    "test_a_pattern_may_be_a_list_a_wildcard_an_alias_or_a_data_stream": "no call that deletes a data stream",
}

_ODD = {"test_a_term_of_an_odd_type_is_right_or_refused_by_name": "types of fields that only OpenSearch has"}
_CODEC = "the codec best_compression breaks the index, as the library is missing that it needs"
_CODECS = {
    "test_a_failure_that_the_codec_is_not_to_blame_for_passes": _CODEC,
    "test_the_settings_of_the_job_are_those_of_the_index-best_compression": _CODEC,
}

LACKS: Mapping[str, Mapping[str, str]] = {
    "elasticsearch7": {_RANDOM: "no fields of the type unsigned_long, and no times without an index", **_ODD},
    "elasticsearch8": {**_MODULES, **_ODD},
    "elasticsearch9": {**_MODULES, **_ODD, **_CODECS},
}
"""Reasons by the name of a test function, or of it and its last parameter, by kind."""
