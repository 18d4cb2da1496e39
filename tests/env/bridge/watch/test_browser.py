"""The live page in a real browser: what it shows, what strangers can put into it, and how it reconnects."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aladdin_env.bridge.events import Beat
from aladdin_env.bridge.watch import WatchOptions

from .served import Served, served
from .stage import Stage

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

QUICK = WatchOptions(every_s=0.1)
EVIL = '<img src=x onerror="document.title=1"><script>alert(1)</script>'
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # its sandbox does not work for root
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


@pytest.fixture
def stage() -> Stage:
    stage = Stage(mode="shadow", options=QUICK)
    stage.ready(0, 1)
    stage.starting(2)
    stage.failed(1, "no answer within 5 s")
    for i in range(3):
        stage.answer(stage.request(f"request-{i}", prompt_tokens=1000 + i))
    stage.watch.beat(Beat(stage.now_s, "shadow", (3,), (7,), (4,), ("step",)))
    return stage


@pytest.fixture
def server(stage: Stage) -> Iterator[Served]:
    with served(stage) as server:
        yield server


class Told:
    """What the browser complains of: there must be nothing."""

    def __init__(self, page: Any) -> None:
        self.faults: list[str] = []
        page.on("console", lambda message: self.faults.append(message.text) if message.type != "info" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append("a dialog"), dialog.dismiss()))


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.told = Told(page)
    page.goto(f"{server.url}/ui")
    page.wait_for_selector("#link.live")
    yield page
    context.close()


def rows(page: Any, body: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"#{body} tr").all_inner_texts()]


def until(page: Any, happens: Callable[[], bool]) -> None:
    """Return when ``happens()``; it must be before long. (The page lets nobody, Playwright included, poll in it.)"""
    for _ in range(400):
        if happens():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen")


def test_it_shows_the_fleet_the_decisions_and_the_policy(page: Any) -> None:
    fleet = rows(page, "fleet")
    assert len(fleet) == 3
    assert fleet[0].startswith("0 gpu-0:8000 ● ready") and "25 %" in fleet[0]
    assert "✕ failed" in fleet[1] and "no answer within 5 s" in fleet[1]
    assert "◐ starting" in fleet[2] and "left" in fleet[2] and "25 %" not in fleet[2]  # unknown is no number
    decisions = rows(page, "decisions")
    assert [row.split()[1] for row in decisions] == ["request-2", "request-1", "request-0"]
    assert "1,002" in decisions[0] and "worker 0" in decisions[0] and "same" in decisions[0]
    assert page.inner_text("#mode") == "shadow" and page.inner_text("#policy") == "least_request"
    assert page.inner_text("#attained") == "100 %" and page.title().startswith("100 %")
    assert "7 4 step" in rows(page, "beats")[0]
    assert rows(page, "slo")[1].startswith("interactive 800 ms 22 ms 100 %")
    assert page.told.faults == []


def test_it_changes_as_things_happen(page: Any, server: Served, stage: Stage) -> None:
    server.do(lambda: stage.ready(2))
    until(page, lambda: page.locator("#fleet .state.ready").count() == 2)
    server.do(lambda: stage.answer(stage.request("the newest"), ttft_s=9.0))
    page.wait_for_selector("#decisions tr:first-child bdi:text('the newest')")
    until(page, lambda: page.inner_text("#attained") == "75.0 %")
    server.do(lambda: stage.watch.fell_back("deadline"))
    page.wait_for_selector("#fallbacks:text('1 fallback')")
    server.do(lambda: stage.decider.set_mode("canary", 0.25))
    page.wait_for_selector("#mode.canary:text('canary 25 %')")
    assert not page.locator("th.of-shadow").is_visible()
    assert "2 of 3 workers ready" in page.inner_text("#spoken")  # for those who listen
    for slot in (0, 1, 2):
        server.do(lambda slot=slot: stage.off(slot))
    page.wait_for_selector("#fleet-none:visible")
    assert page.told.faults == []


def test_what_strangers_write_is_text(page: Any, server: Served, stage: Stage) -> None:
    title = page.title()
    server.do(lambda: stage.request(EVIL))
    server.do(lambda: stage.failed(0, EVIL))
    until(page, lambda: page.text_content("#decisions tr:first-child .id") == EVIL)
    until(page, lambda: page.text_content("#fleet tr:first-child .why") == EVIL)
    assert page.locator("img, main script").count() == 0
    assert page.title() == title and page.told.faults == []


def test_nothing_foreign_runs_even_where_it_gets_in(page: Any) -> None:
    """The policy of the page, not only its care: markup and scripts are refused."""
    attempt = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    assert page.evaluate(attempt) == "TypeError"
    page.evaluate(
        "const s = document.createElement('img'); s.src = 'https://example.com/x.png'; document.body.append(s)"
    )
    until(page, lambda: page.evaluate("document.querySelector('img').complete"))
    assert page.evaluate("document.querySelector('img').naturalWidth") == 0
    assert any("Content Security Policy" in fault for fault in page.told.faults)


def test_it_reconnects_when_the_bridge_was_away(page: Any, server: Served, stage: Stage) -> None:
    page.wait_for_selector("#decisions tr")
    assert page.told.faults == []
    server.stop()
    page.wait_for_selector("#link.lost:text('reconnecting')", timeout=20_000)
    assert page.locator("main.lost").count() == 1 and page.title().startswith("reconnecting")
    assert len(rows(page, "decisions")) == 3  # what was known stays
    fresh = Stage(options=QUICK)  # another process: its numbers start again
    fresh.now_s = 1.0
    fresh.ready(3)
    fresh.request("after the restart")
    server.start(fresh)
    page.wait_for_selector("#link.live", timeout=30_000)
    page.wait_for_selector("#decisions tr:first-child bdi:text('after the restart')")
    assert len(rows(page, "fleet")) == 1
    assert all("ERR_" in fault for fault in page.told.faults)  # only that nobody answered meanwhile


def test_a_restarted_bridge_is_not_taken_for_the_old_one(page: Any, server: Served) -> None:
    server.stop()
    fresh = Stage(options=QUICK)
    fresh.watch.status._began_unix_s += 60.0
    fresh.ready(0)
    fresh.request("first of the new one")
    server.start(fresh)
    page.wait_for_selector("#decisions bdi:text('first of the new one')", timeout=30_000)
    assert len(rows(page, "decisions")) == 1


def test_who_is_refused_asks_again(browser: Any) -> None:
    with served(Stage(options=WatchOptions(every_s=0.1, most_pages=1))) as server:
        first, second = browser.new_page(), browser.new_page()
        first.goto(f"{server.url}/ui")
        first.wait_for_selector("#link.live")
        second.goto(f"{server.url}/ui")
        second.wait_for_selector("#link.lost:text('reconnecting')")
        first.close()
        second.wait_for_selector("#link.live", timeout=20_000)
        second.close()


def test_it_can_be_paused(page: Any, server: Served, stage: Stage) -> None:
    page.click("#pause")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.wait_for_selector("#link.paused")
    server.do(lambda: stage.request("while it was paused"))
    page.wait_for_timeout(400)
    assert len(rows(page, "decisions")) == 3
    page.click("#pause")
    page.wait_for_selector("#decisions bdi:text('while it was paused')")


def test_many_decisions_stay_a_short_list(page: Any, server: Served, stage: Stage) -> None:
    def many() -> None:
        for i in range(500):
            stage.answer(stage.request(f"many-{i}"), tokens=1)

    server.do(many)
    page.wait_for_selector("#decisions bdi:text('many-499')")
    assert len(rows(page, "decisions")) <= 40
    assert page.inner_text("#decisions-more") == "the newest of 503"


def test_it_reads_well_without_eyes_and_on_a_phone(browser: Any, page: Any, server: Served, tmp_path: Path) -> None:
    assert page.locator("h1").count() == 1
    assert page.locator("table").count() == page.locator("table:has(thead th[scope=col])").count() == 4
    assert page.locator("tbody#fleet th[scope=row]").count() == 3
    for section in page.locator("main section").all():
        name = section.get_attribute("aria-label") or page.inner_text("#" + section.get_attribute("aria-labelledby"))
        assert name
    assert all(svg.get_attribute("aria-label") for svg in page.locator("svg[role=img]").all())
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        phone = context.new_page()
        phone.goto(f"{server.url}/ui")
        phone.wait_for_selector("#fleet tr")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        phone.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        background = phone.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(14, 18, 23)") == (scheme == "dark")
        context.close()
