"""Who sees the page: login, session, and what other sites and scripts cannot do with it."""

import base64
import random
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.http.ui import sessions
from rollup_operator.http.ui.guard import CONTENT_POLICY
from rollup_operator.http.ui.sessions import COOKIE, Sessions
from support.access_double import Anybody
from support.browsing import OWN, Browser, browsing
from support.http_double import Cluster
from support.serving import served
from support.store_front import Authority

FOREIGN = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[::1"},
]


@pytest.fixture
async def browser(endpoint: Endpoint) -> AsyncIterator[Browser]:
    async with browsing(endpoint) as browser:
        yield browser


async def test_a_stranger_is_led_to_the_login_and_back(browser: Browser) -> None:
    page = await browser.get("/ui/?state=trouble&q=a%20b")
    assert (page.status, page.headers["Location"]) == (303, "/ui/login?next=/ui/%3Fstate%3Dtrouble%26q%3Da%2520b")
    form = await browser.get(page.headers["Location"])
    assert (form.status, re.findall(r'name="next" value="([^"]*)"', form.text)) == (
        200,
        ["/ui/?state=trouble&amp;q=a%20b"],
    )
    done = await browser.post("/ui/login", {"token": " Bearer ann ", "next": "/ui/?state=trouble&q=a%20b"})
    assert (done.status, done.headers["Location"]) == (303, "/ui/?state=trouble&q=a%20b")
    assert (await browser.get("/ui/")).words('id="user"') == "ann"


@pytest.mark.parametrize(
    "onward", ["https://evil.example/", "//evil.example/ui/", "/_rollup/job", "/ui/\\..", "/ui/\n", "javascript:x", ""]
)
async def test_a_login_leads_to_no_other_place(browser: Browser, onward: str) -> None:
    done = await browser.post("/ui/login", {"token": "ann", "next": onward})
    assert done.headers["Location"] == "/ui/"


async def test_the_cookie_is_for_this_page_alone_and_holds_no_token(browser: Browser) -> None:
    done = await browser.post("/ui/login", {"token": "a-secret-token"})
    value, *attributes = done.headers["Set-Cookie"].split("; ")
    assert {each.lower() for each in attributes} == {"httponly", "path=/ui/", "samesite=strict"}
    assert "a-secret-token" not in value
    assert "a-secret-token" not in done.text + str(done.headers)
    page = await browser.get("/ui/")
    assert page.status == 200
    assert browser.cookie not in page.text


@pytest.mark.parametrize("before", ["\u2000", "\u3000", "\x85", "\xa0", "x\t", "$"])
async def test_a_cookie_that_another_host_of_the_domain_can_set_is_not_ours(browser: Browser, before: str) -> None:
    """A browser lets it, since the name does not begin with `__Host-`."""
    values = []
    for user in ("ann", "mallory"):
        done = await browser.post("/ui/login", {"token": user}, X_Forwarded_Proto="https", **OWN_)
        values.append(done.headers["Set-Cookie"].partition("=")[2].partition(";")[0])
    browser.cookie, browser.headers = "", {"X-Forwarded-Proto": "https"}
    ours, theirs = f"__Host-rollup_session={values[0]}", f"{before}__Host-rollup_session={values[1]}"
    for cookies in (f"{ours}; {theirs}", f"{theirs}; {ours}"):
        assert (await browser.get("/ui/", Cookie=cookies)).words('id="user"') == "ann"
    assert (await browser.get("/ui/", Cookie=theirs)).status == 303


async def test_the_cookie_is_secure_behind_tls(browser: Browser) -> None:
    done = await browser.post("/ui/login", {"token": "ann"}, X_Forwarded_Proto="https", **OWN_)
    value, *attributes = done.headers["Set-Cookie"].split("; ")
    assert value.startswith("__Host-rollup_session=")
    assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict", "secure"}
    browser.headers = {"X-Forwarded-Proto": "https"}
    page = await browser.get("/ui/")
    assert (page.status, (await browser.get("/_rollup/job")).status) == (200, 401)
    gone = await browser.post("/ui/logout", {"csrf": page.csrf})
    assert (gone.status, "__Host-rollup_session=" in gone.headers["Set-Cookie"]) == (303, True)
    assert {"Path=/", "Secure"} < set(gone.headers["Set-Cookie"].split("; "))


async def test_the_endpoint_s_own_tls_ties_the_cookie_to_its_host(
    cluster: Cluster, access: Anybody, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path / "ca")
    pair = authority.issue("endpoint")
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    files = {"tls_cert_file": str(pair.certificate), "tls_key_file": str(pair.key)}
    async with served(cluster, access=access, **files) as endpoint, aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{endpoint.port}/ui/"
        form = {"token": "ann"}
        async with session.post(f"{url}login", data=form, ssl=trust, headers=OWN, allow_redirects=False) as done:
            set_cookie = done.headers["Set-Cookie"]
        assert set_cookie.startswith("__Host-rollup_session=")
        assert {"Path=/", "Secure", "HttpOnly"} < set(set_cookie.split("; "))
        async with session.get(url, ssl=trust, headers={"Cookie": set_cookie.partition(";")[0]}) as page:
            assert (page.status, 'id="list"' in await page.text()) == (200, True)


async def test_behind_tls_no_cookie_counts_that_another_host_can_set(browser: Browser) -> None:
    await browser.log_in()
    assert (await browser.get("/ui/")).status == 200
    browser.headers = {"X-Forwarded-Proto": "https"}
    assert (browser.cookie_name, (await browser.get("/ui/")).status) == ("rollup_session", 303)


async def test_a_refused_token_is_told_so_and_the_connection_ends(browser: Browser, access: Anybody) -> None:
    page = await browser.post("/ui/login", {"token": "", "next": "/ui/?q=x"})
    assert page.status == 401
    assert page.words('role="alert"') == "The API server does not accept this token."
    assert (page.headers["Connection"], browser.cookie) == ("close", "")
    assert 'value="/ui/?q=x"' in page.text


async def test_a_token_that_no_cookie_holds_is_told_so(browser: Browser) -> None:
    token = base64.urlsafe_b64encode(random.Random(1).randbytes(3200)).decode()
    page = await browser.post("/ui/login", {"token": token})
    assert (page.status, browser.cookie) == (400, "")
    assert page.words('role="alert"').startswith("This token is too long for a browser's cookie")


@pytest.mark.parametrize("sent", FOREIGN)
async def test_no_other_site_can_log_a_user_in_or_out(browser: Browser, sent: dict[str, str]) -> None:
    page = await browser.post("/ui/login", {"token": "eve"}, **sent)
    assert (page.status, browser.cookie) == (403, "")
    await browser.log_in()
    csrf = (await browser.get("/ui/")).csrf
    assert (await browser.post("/ui/logout", {"csrf": csrf}, **sent)).status == 403
    assert (await browser.get("/ui/")).status == 200


async def test_a_client_that_says_nothing_of_sites_may_log_in(browser: Browser) -> None:
    assert (await browser.post("/ui/login", {"token": "ann"}, X_Nothing="1")).status == 303
    own = {"Origin": browser.base}
    assert (await browser.post("/ui/login", {"token": "ann"}, **own)).status == 303


async def test_logging_out_takes_the_cookie_and_needs_the_token_of_the_form(browser: Browser) -> None:
    await browser.log_in()
    csrf = (await browser.get("/ui/")).csrf
    for wrong in ({}, {"csrf": ""}, {"csrf": csrf[:-1] + "x"}, {"csrf": "x" * len(csrf)}):
        assert (await browser.post("/ui/logout", wrong)).status == 403
    page = await browser.post("/ui/logout", {"csrf": csrf})
    assert (page.status, page.headers["Location"], browser.cookie) == (303, "/ui/login", "")
    assert "Max-Age=0" in page.headers["Set-Cookie"]


async def test_a_form_of_another_session_is_refused_even_of_the_same_user(browser: Browser) -> None:
    await browser.log_in()
    csrf = (await browser.get("/ui/")).csrf
    await browser.log_in()
    assert (await browser.post("/ui/logout", {"csrf": csrf})).status == 403


async def test_tokens_of_forms_are_never_the_same(browser: Browser) -> None:
    await browser.log_in()
    first, second = (await browser.get("/ui/")).csrf, (await browser.get("/ui/")).csrf
    assert first != second
    assert (await browser.post("/ui/logout", {"csrf": first})).status == 303


async def test_a_cookie_that_was_changed_or_made_up_is_no_session(browser: Browser) -> None:
    await browser.log_in()
    sealed = browser.cookie
    for cookie in (sealed[:-4] + "AAA=", sealed[1:], "ann", "Bearer ann"):
        browser.cookie = cookie
        page = await browser.get("/ui/")
        assert (page.status, page.headers["Location"]) == (303, "/ui/login?next=/ui/&ended")
    assert "Your session has ended" in (await browser.get("/ui/login?next=/ui/&ended")).text


async def test_a_session_ends_with_its_token(browser: Browser, access: Anybody) -> None:
    await browser.log_in()
    access.gone.add("ann")
    assert (await browser.get("/ui/")).status == 303
    part = await browser.get("/ui/?part=list")
    assert (part.status, part.words('role="alert"')[:34]) == (401, "Please log in Your session has end")


async def test_a_session_ends_after_a_while_though_its_token_is_good(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.log_in()
    monkeypatch.setattr(sessions, "SESSION_SECONDS", 0.0)
    assert (await browser.get("/ui/")).status == 303


def test_replicas_that_share_the_secret_share_sessions_until_it_is_another() -> None:
    secret = [b"of the certificate"]
    response = web.Response()
    Sessions(lambda: secret[0]).begin(make_mocked_request("POST", "/ui/login"), response, "token-of-ann")
    cookie = response.cookies[COOKIE]
    request = make_mocked_request("GET", "/ui/", headers={"Cookie": f"{COOKIE}={cookie.value}"})
    replica = Sessions(lambda: secret[0])
    assert replica.credentials(request) == ["Bearer token-of-ann"]
    secret[0] = b"of another one"
    assert replica.credentials(request) == []


async def test_the_cookie_opens_the_page_alone(browser: Browser, cluster: Cluster) -> None:
    await browser.log_in()
    for path in ("/_rollup/job", "/", "/uix"):
        assert (await browser.get(path)).status == 401


async def test_a_proxy_in_front_logs_in(endpoint: Endpoint) -> None:
    async with browsing(endpoint, Authorization="Bearer bob") as behind:
        page = await behind.get("/ui/")
        assert (page.status, page.words('id="user"')) == (200, "bob")
        assert "Log out" not in page.text
        assert (await behind.post("/ui/logout", {"csrf": ""})).status == 403


async def test_a_proxy_s_login_wins_over_a_cookie_and_two_are_refused(browser: Browser) -> None:
    await browser.log_in()
    assert (await browser.get("/ui/", Authorization="Bearer bob")).words('id="user"') == "bob"


async def test_a_link_of_another_site_finds_the_session(browser: Browser) -> None:
    page = await browser.get("/ui/?q=x", Sec_Fetch_Site="cross-site")
    assert (page.status, 'http-equiv="refresh" content="0"' in page.text) == (200, True)
    assert page.headers["Connection"] == "close"
    again = await browser.get("/ui/?q=x", Sec_Fetch_Site="same-origin")
    assert again.status == 303


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/login", "/ui/nothing", "/ui/namespaces/default/jobs", "/ui/namespaces/default/jobs/a/stop"]
)
async def test_every_page_says_what_a_browser_may_do(browser: Browser, path: str) -> None:
    for user in ("", "ann"):
        browser.headers = {"Authorization": f"Bearer {user}"} if user else {}
        page = await browser.get(path)
        assert page.headers["Content-Security-Policy"] == CONTENT_POLICY
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"
        assert "WWW-Authenticate" not in page.headers  # a browser would ask for a password
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page.text)


async def test_files_are_kept_for_ever_under_the_address_of_their_content(browser: Browser) -> None:
    page = await browser.get("/ui/login")
    urls = re.findall(r'"(/ui/static/[^"]*)"', page.text)
    assert {url.rpartition(".")[2] for url in urls} == {"css", "js", "svg"}
    for url in urls:
        file = await browser.get(url)
        assert (file.status, "immutable" in file.headers["Cache-Control"]) == (200, True)
        old = await browser.get(re.sub("static/[^/]*", "static/0123456789abcdef", url))
        assert (old.status, old.headers["Cache-Control"]) == (200, "no-store")
    for wrong in ("page.py", "..%2fguard.py", "nothing.css"):
        assert (await browser.get(f"/ui/static/x/{wrong}")).status == 404


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"token=" + b"x" * 17_000, 413),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&" * 20, 400),
    ],
)
async def test_what_is_no_form_is_refused(browser: Browser, headers: dict[str, str], data: bytes, status: int) -> None:
    async with browser.session.post(f"{browser.base}/ui/login", data=data, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (status, "text/html")


async def test_the_page_can_be_turned_off(cluster: Cluster, access: Anybody) -> None:
    async with served(cluster, access=access, ui=False) as endpoint, browsing(endpoint) as browser:
        assert [(await browser.get(path)).status for path in ("/ui/", "/ui/login", "/ui")] == [401, 401, 401]
        browser.headers = {"Authorization": "Bearer ann"}
        assert (await browser.get("/ui/")).status == 404


async def test_without_the_page_its_cookie_is_no_login(
    cluster: Cluster, access: Anybody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.http.app._shared_secret", lambda _: lambda: b"of the certificate")
    async with served(cluster, access=access) as endpoint, browsing(endpoint) as browser:
        await browser.log_in()
        cookie = browser.cookie
    async with served(cluster, access=access, ui=False) as endpoint, browsing(endpoint) as browser:
        browser.cookie = cookie
        assert [(await browser.get(path)).status for path in ("/ui/", "/ui/namespaces/default/jobs")] == [401, 401]


async def test_who_may_see_no_job_is_told_so_on_a_page(browser: Browser, access: Anybody) -> None:
    await browser.log_in()
    access.denied = {(EndpointAction.GET, "")}
    page = await browser.get("/ui/namespaces/default/jobs")
    assert (page.status, page.words('role="alert"')[:11]) == (403, "Not allowed")


OWN_ = {name.replace("-", "_"): value for name, value in OWN.items()}
