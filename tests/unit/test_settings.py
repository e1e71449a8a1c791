"""Settings come from the environment, and a wrong one says what would do."""

from pathlib import Path

import pytest

from rollup_operator.settings import Settings, SettingsError


def test_defaults_without_an_environment():
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.http_host == "127.0.0.1"


def test_each_kind_of_setting_is_read():
    settings = Settings.from_environment(
        {
            "ROLLUP_DATA_ROOT": "/var/data",
            "ROLLUP_HTTP_PORT": "0",
            "ROLLUP_NAMESPACES": "a, b,,",
            "ROLLUP_GRACE_SECONDS": "2.5",
            "ROLLUP_CLUSTER": "east",
            "HTTP_PORT": "1",
        }
    )
    assert settings.data_root == Path("/var/data")
    assert settings.http_port == 0
    assert settings.namespaces == ("a", "b")
    assert settings.grace_seconds == 2.5
    assert settings.cluster == "east"


def test_an_override_wins_unless_it_is_none():
    environment = {"ROLLUP_HTTP_PORT": "1", "ROLLUP_LOG_LEVEL": "debug"}
    settings = Settings.from_environment(environment, http_port=2, log_level=None)
    assert (settings.http_port, settings.log_level) == (2, "debug")


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("HTTP_PORT", "many", "ROLLUP_HTTP_PORT is 'many': it takes a number such as 9400"),
        ("GRACE_SECONDS", "", "ROLLUP_GRACE_SECONDS is ''"),
        ("HTTP_HOST", "0.0.0.0", "use 127.0.0.1, ::1 or localhost"),
        ("LOG_FORMAT", "xml", "use auto, json or console"),
        ("LOG_LEVEL", "loud", "use debug, info, warning or error"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_cure(name: str, value: str, cure: str):
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({f"ROLLUP_{name}": value})
    assert cure in str(error.value)


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings().http_port = 1  # type: ignore[misc]
