"""A real browser: Debian's Chromium through its driver, as a person has it in front of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from support.callers import Account

__all__ = ["DESKTOP", "PHONE", "Browser", "Keys", "LogIn"]

T = TypeVar("T")

DESKTOP, PHONE = (1200, 900), (390, 844)
"""Width and height of a window, in pixels."""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root otherwise, and sees no page but ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
_SERIOUS = ("serious", "critical")


class Browser:
    """One window. A context manager: its end closes the browser."""

    def __init__(self, binary: str, driver: str, profile: Path) -> None:
        options = ChromeOptions()
        options.binary_location = binary
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        self.driver = Chrome(options=options, service=Service(driver))
        self.expected: list[str] = []
        """Parts of messages that a test provokes."""
        self._base = ""
        self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def at(self, url: str) -> "Browser":
        """Say which server's pages are meant, and forget the cookies and the log of others."""
        self._base = url.rstrip("/")
        self.expected = []
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.messages()
        return self

    def look(self, *, dark: bool = False, size: tuple[int, int] = DESKTOP) -> None:
        """Take a colour scheme and a size of the window."""
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                    {"name": "prefers-reduced-motion", "value": "reduce"},
                ]
            },
        )
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, path: str) -> None:
        self.driver.get(self._base + path)

    @property
    def path(self) -> str:
        """Where the window is: path and query."""
        parts = urlsplit(self.driver.current_url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    # -- what is on the page -----------------------------------------------------------------------------------------

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The only element that matches; it need not be there yet."""

        def only() -> WebElement | None:
            found = self.all(selector)
            assert len(found) < 2, f"{len(found)} elements match {selector}"
            return found[0] if found else None

        return self.until(only, f"{selector} on the page")

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def button(self, words: str) -> WebElement:
        """The button that shows these words."""
        path = f"//button[normalize-space()={json.dumps(words)}]"
        return self.until(lambda: next(iter(self._shown(path)), None), f"a button {words!r}")

    def buttons(self) -> list[str]:
        """The words of all buttons that are shown."""
        return [element.text for element in self._shown("//button")]

    def _shown(self, path: str) -> list[WebElement]:
        return [element for element in self.driver.find_elements(By.XPATH, path) if element.is_displayed()]

    def until(self, condition: Callable[[], T | None], what: str, timeout: float = 40.0) -> T:
        """Return what `condition` returns once it is something; elements that are replaced meanwhile do not matter."""
        ignored = (StaleElementReferenceException, NoSuchElementException)
        waiting = WebDriverWait(self.driver, timeout, poll_frequency=0.05, ignored_exceptions=ignored)
        try:
            return waiting.until(lambda _: condition(), what)  # type: ignore[arg-type, return-value]
        except WebDriverException as error:
            body = self.driver.execute_script("return document.body ? document.body.innerText : ''")
            raise AssertionError(f"{self.path}: no {what} after {timeout} s ({error.msg}):\n{body}") from None

    # -- what a person does ------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; a Promise is awaited. The page's policy does not bind it."""
        return self.driver.execute_script(script, *arguments)

    # -- what shows that the page is in order ------------------------------------------------------------------------

    def messages(self) -> list[str]:
        """What the browser has reported of the page since the last call: errors of scripts, refusals of the policy.

        Statuses of answers are left out.
        """
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] != "network"]

    def surprises(self) -> list[str]:
        """Those of the messages that no test has expected."""
        return [message for message in self.messages() if not any(part in message for part in self.expected)]

    def complaints(self, axe: str) -> list[str]:
        """What axe finds serious: the rule, and where."""
        if not self.run("return typeof axe === 'object'"):
            self.run(axe)
        found: Sequence[dict[str, Any]] = self.run(
            "return axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)"
        )
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in found
            if each["impact"] in _SERIOUS
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        return bool(self.run("return document.documentElement.scrollWidth > window.innerWidth"))

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        height = int(self.run("return document.documentElement.scrollHeight"))
        width = int(self.run("return window.innerWidth"))
        metrics = {"width": width, "height": min(height, 4000), "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        path.write_bytes(self.driver.get_screenshot_as_png())


LogIn = Callable[[Account], Browser]
"""Logs in as somebody, and arrives at the jobs of their namespace."""
