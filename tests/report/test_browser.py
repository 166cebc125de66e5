"""Headless Chromium opens the page: no message in its console, and the DOM says what audit.json says."""

import contextlib
import json
import re
import shutil
import subprocess

import pytest

from efface.report import write
from tests.browser import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def opened(path, profile) -> tuple[str, list[str]]:
    """The DOM after loading, and what was written to the console."""
    command = [CHROMIUM, *OFFLINE, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_browser_shows_the_verdict_of_the_audit_without_an_error(make_audit, record, tmp_path):
    audit = make_audit(drawn=True)
    write(audit, record, tmp_path)
    dom, console = opened(tmp_path / "report.html", tmp_path / "profile")
    assert console == []
    said = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["verdict"]
    (tag,) = re.findall(r'<section[^>]*id="verdict"[^>]*>', dom)
    assert f'data-verdict="{said["outcome"]}"' in tag
    text = " ".join(re.sub(r"<[^>]*>", "", dom.split(tag)[1].split("</section>")[0]).split())
    assert said["headline"] in text


def test_an_error_would_be_seen(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><title>x</title><script>throw new Error('boom')</script>", encoding="utf-8")
    _, console = opened(page, tmp_path / "profile")
    assert any("boom" in line for line in console)


def test_a_narrow_page_is_no_wider_and_its_cards_are_even(make_audit, record, tmp_path):
    write(make_audit(drawn=True), record, tmp_path)
    with contextlib.closing(Browser(tmp_path / "profile")) as browser:
        browser.open(tmp_path / "report.html", 400)
        assert browser.value("document.documentElement.scrollWidth") == 400
        cells = "[...document.querySelectorAll('.stack td')]"
        gaps = browser.value(f"[...new Set({cells}.map(td => getComputedStyle(td).rowGap))]")
    assert len(gaps) == 1, "an interval stands as close to its score in the last column as in the others"
