"""Settings come from the environment, and a wrong one says what would do."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from rollup_operator import cli
from rollup_operator.settings import Settings, SettingsError

ROW = r"^\| `(ROLLUP_[A-Z_]+)` \| (.*?) ?\| (.+?) \|"
"""Variable, flag and default of a row of docs/settings.md."""


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
            "ROLLUP_GITOPS_MANAGERS": "argocd-controller,our-tool",
            "HTTP_PORT": "1",
        }
    )
    assert settings.data_root == Path("/var/data")
    assert settings.http_port == 0
    assert settings.namespaces == ("a", "b")
    assert settings.grace_seconds == 2.5
    assert settings.cluster == "east"
    assert settings.gitops_managers == ("argocd-controller", "our-tool")


def test_an_override_wins_unless_it_is_none():
    environment = {"ROLLUP_HTTP_PORT": "1", "ROLLUP_LOG_LEVEL": "debug"}
    settings = Settings.from_environment(environment, http_port=2, log_level=None)
    assert (settings.http_port, settings.log_level) == (2, "debug")


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("HTTP_PORT", "many", "ROLLUP_HTTP_PORT is 'many': use a number such as 9400"),
        ("GRACE_SECONDS", "", "ROLLUP_GRACE_SECONDS is ''"),
        ("HTTP_CONNECTIONS", "0", "http_connections is 0: use more than 0"),
        ("ALLOW_PLAIN_HTTP", "yes", "ROLLUP_ALLOW_PLAIN_HTTP is 'yes': use true or false"),
        ("STOP_TIMEOUT_STATUS", "503", "stop_timeout_status is 503: use 500 or 429"),
        ("HTTP_PORT", "65536", "http_port is 65536: use 0 to 65535"),
        ("LEASE_SECONDS", "1", "lease_seconds is 1.0: use 5 or more"),
        ("LEASE_SECONDS", "nan", "lease_seconds is nan: use 5 or more"),
        ("CLOCK_SKEW_SECONDS", "1e10", "clock_skew_seconds is 10000000000.0: use at most 1000000000"),
        ("SWEEP_SECONDS", "0", "sweep_seconds is 0.0: use more than 0"),
        ("GRACE_SECONDS", "nan", "grace_seconds is nan: use 0 or more"),
        ("ALLOWED_CACHE_SECONDS", "-1", "allowed_cache_seconds is -1.0: use 0 or more"),
        ("DEFAULT_NAMESPACE", "", "default_namespace is '': name a namespace"),
        ("DEFAULT_NAMESPACE", "../x", "default_namespace is '../x': name a namespace"),
        (
            "NAMESPACES",
            "a,b/c",
            "namespaces has 'b/c', which is not a namespace: use lower case letters, digits and '-'",
        ),
        (
            "LEASE_NAMESPACE",
            "A",
            "lease_namespace has 'A', which is not a namespace: use lower case letters, digits and '-'",
        ),
        ("LEASE_NAME", "", "lease_name is '': name a Lease"),
        ("LEASE_NAME", "a/b", "lease_name is 'a/b': name a Lease"),
        ("COMPAT_VERSION", "5", "compat_version is 5: use 6, 7, 8 or 9"),
        ("EVENTS", "none", "events is 'none': use all or warnings"),
        ("LOG_FORMAT", "xml", "use auto, json or console"),
        ("LOG_LEVEL", "loud", "use debug, info, warning or error"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_cure(name: str, value: str, cure: str):
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({f"ROLLUP_{name}": value})
    assert cure in str(error.value)


def documented() -> dict[str, tuple[str, str]]:
    """Flag and default of each variable, as the page of settings tells them."""
    page = (Path(__file__).parents[2] / "docs/settings.md").read_text()
    return {name: (flag, default) for name, flag, default in re.findall(ROW, page, re.MULTILINE)}


def test_every_setting_is_documented_with_its_default():
    in_docs = documented()
    assert sorted(in_docs) == sorted(f"ROLLUP_{f.name.upper()}" for f in fields(Settings))
    for f in fields(Settings):
        default = in_docs[f"ROLLUP_{f.name.upper()}"][1]
        if f.default in ("", ()) or f.name == "gitops_managers":
            assert "`" not in default, f.name
        else:
            assert default == f"`{str(f.default).lower() if isinstance(f.default, bool) else f.default}`", f.name


def test_every_flag_of_a_setting_is_documented():
    command = next(c for c in get_command(cli.app).commands.values() if c.name == "run")  # type: ignore[attr-defined]
    flags = {option.opts[0]: option.name for option in command.params}
    others = {"--kubeconfig", "--context", "--url-file"}
    variables = {"namespace": "namespaces"}
    assert {
        flag: f"ROLLUP_{variables.get(name, name).upper()}" for flag, name in flags.items() if flag not in others
    } == {flag.split("`")[1]: variable for variable, (flag, _) in documented().items() if flag}


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings().http_port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "*", "rollup.example"])
def test_an_address_that_others_can_reach_needs_tls_or_a_word(host: str):
    with pytest.raises(SettingsError) as error:
        Settings(http_host=host)
    for cure in ("set tls_cert_file and tls_key_file", "use 127.0.0.1", "allow_plain_http=true"):
        assert cure in str(error.value)
    assert Settings(http_host=host, tls_cert_file="a", tls_key_file="b").tls
    assert not Settings.from_environment({"ROLLUP_HTTP_HOST": host, "ROLLUP_ALLOW_PLAIN_HTTP": "true"}).tls


def test_a_free_port_needs_one_address():
    with pytest.raises(SettingsError, match=r"http_port is 0.*set a port, or one address"):
        Settings(http_host="*", http_port=0, allow_plain_http=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_neither(host: str):
    assert not Settings(http_host=host).tls


@pytest.mark.parametrize(("given", "missing"), [("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")])
def test_half_a_pair_is_refused(given: str, missing: str):
    with pytest.raises(SettingsError, match=f"{missing} is not set"):
        Settings(**{given: "x"})


def test_an_aws_identity_needs_what_signs(monkeypatch: pytest.MonkeyPatch):
    assert Settings(store_aws_namespaces=("team-a",)).store_aws_namespaces == ("team-a",)
    monkeypatch.setattr("rollup_operator.settings._is_installed", lambda module: module != "botocore")
    with pytest.raises(SettingsError, match=r"^store_aws_namespaces is set, .* install rollup-operator\[aws\]"):
        Settings(store_aws_namespaces=("team-a",))
