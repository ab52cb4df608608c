"""Chromium, driven by its own driver: what is shown, what it complained of, and whom it asked."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

T = TypeVar("T")

LOOK = (Path(__file__).parent / "look.js").read_text("utf-8")
SECONDS = 60.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_SHOWN = """
const main = document.getElementById("main");
return main && !main.hasAttribute("aria-busy") ? main.dataset.shown ?? null : null;
"""


def chromium() -> tuple[str, str] | None:
    """Where Chromium and its driver are."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return (found[0], found[1]) if found[0] and found[1] else None


class Browser:
    """One window on the dashboard at `url`."""

    def __init__(self, url: str, folder: Path) -> None:
        paths = chromium()
        assert paths is not None
        options = Options()
        options.binary_location = paths[0]
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(paths[1]))
        self.url = url
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.answers: set[int] = set()

    def close(self) -> None:
        self.driver.quit()

    # Where to

    def open(self, fragment: str = "") -> None:
        """Load the page anew."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}{fragment}")
        self.settled()

    def settled(self, after: str | None = None) -> str:
        """Wait until a section is drawn, another than `after`."""

        def shown() -> str | None:
            found = self.run(_SHOWN)
            return found if found and found != after else None

        return self.until(shown, "nothing is shown")

    def acts(self, act: Callable[[], object]) -> None:
        """Do something that leads to another drawing, and wait for it."""
        before = self.settled()
        act()
        self.settled(before)

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """Look again and again, until there is something to see."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                if found := look():
                    return found
            except (StaleElementReferenceException, JavascriptException):
                pass
            time.sleep(0.03)
        raise AssertionError(f"{what}; the page says: {self.text()[:2000]}")

    def click(self, text: str) -> None:
        """A link or a button by its text."""
        found = next(e for e in self.all("a, button, summary") if e.text.strip() == text)
        self.run("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def section(self, title: str) -> None:
        """Go there by its link."""
        self.acts(lambda: self.click(title))

    def choose(self, name: str, value: str) -> None:
        """Choose in a list by its id."""
        self.acts(lambda: Select(self.one(f"#{name}")).select_by_value(value))

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def wide(self, width: int, height: int = 800) -> None:
        """Another width of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    # What there is

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def look(self, what: str, *arguments: Any) -> Any:
        """What a function of `look.js` finds."""
        return self.run(f"{LOOK}; return {what}(...arguments)", *arguments)

    def table(self, caption: str) -> list[list[str]]:
        """The rows of a table, shown or behind a chart, by how its caption begins."""
        rows = self.look("rows", caption)
        assert rows is not None, f"no table {caption}"
        return list(rows)

    def figures(self) -> dict[str, str]:
        """What stands large on the page, by its name."""
        return dict(self.look("figures"))

    def read_logs(self) -> None:
        """Keep what the console said, and whom the page asked."""
        self.complaints += [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urlsplit(message["params"]["request"]["url"])
                # The browser's own pages come from itself.
                if url.scheme not in ("about", "data", "chrome"):
                    self.hosts.add(url.netloc)
            elif message["method"] == "Network.responseReceived":
                self.answers.add(message["params"]["response"]["status"])
