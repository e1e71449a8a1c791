"""Chromium of this machine, for tests of the page and for its picture in the documentation."""

from local_browser.needs import CHROMIUM, DRIVER, why_not

__all__ = ["CHROMIUM", "DRIVER", "why_not"]
