"""The page report.html in Chromium: what people see, reach by keyboard, copy and save."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from examples import config, example_run, trial
from pages import HOSTILE, hostile_page, random_page

from spquant_search.report.page import write_page
from spquant_search.report.page_data import PageSource, page_document
from spquant_search.runs import selection
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import Budget
from spquant_search.space.objectives import COSTS

pytestmark = pytest.mark.slow

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"


@dataclass(kw_only=True)
class Opened:
    """A page in the browser, and all that it asked a network for or complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is not installed: make browser (Debian)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Open]:
    """Open a page from a file, as people do; afterwards nothing may have been asked for or complained of."""
    contexts, all_opened = [], []

    def open_page(source: PageSource, *, width: int = 1280, scheme: str = "light") -> Opened:
        file = tmp_path / "report.html"
        write_page(source, file)
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        found = Opened(page=context.new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
        found.page.goto(file.as_uri())
        contexts.append(context)
        all_opened.append((found, file.as_uri()))
        return found

    yield open_page
    for context in contexts:
        context.close()
    for found, address in all_opened:
        assert found.complaints == []
        assert [url for url in found.requests if url != address and not url.startswith("blob:")] == []


@pytest.fixture(scope="module")
def source() -> PageSource:
    return random_page(120)


BASELINE = trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0"))
STATES = {
    "everything": lambda: random_page(40),
    "500 trials": lambda: random_page(500),
    "while it runs": lambda: replace(random_page(40), is_running=True),
    "the baseline alone": lambda: PageSource(summary=example_run(results=(BASELINE,))),
    "nothing measured": lambda: PageSource(
        summary=example_run(results=(replace(BASELINE, outcome=Outcome.FAILED, epochs=()),))
    ),
    "no shapes, no operations": lambda: PageSource(summary=example_run()),
    "flash and RAM": lambda: PageSource(
        summary=example_run(costs=("flash_bytes", "ram_bytes"), dearest={"flash_bytes": 9e4, "ram_bytes": 4e4})
    ),
    "hostile words": hostile_page,
}


@pytest.mark.parametrize("state", STATES)
def test_a_page_draws_whatever_the_state_of_its_run(opened, state):
    page = opened(STATES[state]()).page
    assert page.locator("h1").inner_text().strip()
    assert page.locator("#table tbody tr, #chosen *").count()


def test_hostile_words_are_shown_as_they_are(opened):
    page = opened(hostile_page()).page
    shown = " ".join(HOSTILE.split())
    assert page.locator("h1").inner_text() == shown
    assert shown in page.locator("#made").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_keeps_anybody_out(opened, source, width, scheme):
    """As far as axe-core can tell."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(source, width=width, scheme=scheme).page
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [360, 1280])
def test_a_page_is_no_wider_than_its_window(opened, source, width):
    page = opened(source, width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_keyboard_alone_reaches_every_control(opened, source):
    page = opened(source).page
    page.evaluate(
        """selector => document.querySelectorAll(selector).forEach((each, place) => {
            if (each.checkVisibility()) each.dataset.place = place;
        })""",
        CONTROLS,
    )
    wanted = page.locator("[data-place]").count()
    reached = set()
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.place"))
    assert len(reached - {None}) == wanted > 30


def test_arrows_walk_along_the_front_and_enter_chooses(opened, source):
    page = opened(source).page
    page.locator("#front [tabindex='0']").focus()
    page.keyboard.press("Home")
    seen = []
    for _ in range(3):
        seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert page.locator("#tip").is_visible()
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == 3
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')").split(":")[0]
    assert page.locator("#chosen h3").inner_text() == f"Chosen by hand: {name}"
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_budgets_name_what_pick_would_take(opened, source):
    page, summary = opened(source).page, source.summary
    memory, accuracy = page.get_by_label("memory at most, in KiB"), page.get_by_label("accuracy at least, in %")
    for kib in (18, 22.5, 25, 40):
        memory.fill(str(kib))
        chosen = selection.pick(summary.pickable, summary.costs, Budget(max_memory_bytes=kib * 1024))
        command = f"spquant-search pick vgg9 --trial {chosen.number} --out picked"
        assert page.locator("#command").inner_text() == command
        unfit = page.locator("#front .point.unfit").count()
        shown = [each for each in summary.compared if each.memory_bytes > kib * 1024]
        assert unfit == len(shown)
    accuracy.fill("99")
    assert page.locator("#chosen h3").inner_text().startswith("Nothing fits; nearest: trial")
    page.get_by_role("button", name="No budgets").click()
    best = selection.pick(summary.pickable, summary.costs, Budget())
    assert page.locator("#chosen h3").inner_text() == f"Most accurate: trial {best.number}"


def test_a_slider_moves_by_keys_and_sets_the_field(opened, source):
    page = opened(source).page
    slider = page.get_by_label("memory at most, KiB")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    kib = float(page.get_by_label("memory at most, in KiB").input_value())
    summary = source.summary
    chosen = selection.pick(summary.pickable, summary.costs, Budget(max_memory_bytes=kib * 1024))
    assert f"--trial {chosen.number} " in page.locator("#command").inner_text()
    assert slider.get_attribute("aria-valuetext").endswith("KiB")


def test_the_command_and_the_table_can_be_copied(opened, source):
    page = opened(source).page
    page.locator("#chosen").get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = "navigator.clipboard.readText()"
    assert page.evaluate(copied) == page.locator("#command").inner_text()
    page.get_by_role("button", name="Copy the table").click()
    page.get_by_role("button", name="Copied").last.wait_for()
    rows = page.evaluate(copied).splitlines()
    assert len(rows) == 1 + len(source.summary.front)
    assert {len(row.split("\t")) for row in rows} == {len(rows[0].split("\t"))}


def test_figures_can_be_saved(opened, source):
    page = opened(source).page

    def saved(button: str) -> str:
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        return Path(download.value.path()).read_text(encoding="utf-8")

    document = page_document(source)
    assert json.loads(saved("Save JSON")) == json.loads(json.dumps(document))
    rows = list(csv.DictReader(io.StringIO(saved("Save CSV"))))
    assert [int(row["number"]) for row in rows] == [result.number for result in source.summary.results]
    by_number = {result.number: result for result in source.summary.results}
    for row in rows:
        result = by_number[int(row["number"])]
        assert float(row["memory_bytes"]) == result.memory_bytes
        assert float(row["conv1.weight_bits"]) == result.config["conv1"].weight_bits
        if result.epochs:
            assert float(row["accuracy"]) == result.accuracy


def test_the_table_is_sorted_by_the_column_that_is_pressed(opened, source):
    page = opened(source).page
    page.locator("#table thead").get_by_role("button", name="accuracy, %").click()
    column = "[...document.querySelectorAll('#table tbody tr')].map(row => Number(row.cells[2].textContent))"
    up = page.evaluate(column)
    assert up == sorted(up)
    assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert page.evaluate(column) == up[::-1]


def test_a_choice_shows_in_every_part(opened, source):
    page = opened(source).page
    button = page.locator("#map button").nth(2)
    number = button.inner_text()
    button.click()
    assert page.locator("#chosen h3").inner_text().startswith(f"Chosen by hand: trial {number}")
    assert page.locator("#map tr.chosen button").inner_text() == number
    assert f"trial {number}" in page.locator("#bars-lead").inner_text()
    assert f"trial {number}" in page.locator("#beside thead").inner_text()
    assert page.locator("#front [aria-pressed='true']").count() == 1


def test_every_cost_is_an_axis_and_a_colour(opened, source):
    page = opened(source).page
    for control in ("accuracy against", "colour"):
        chooser = page.locator("#front-controls").get_by_label(control)
        values = [option.get_attribute("value") for option in chooser.locator("option").all()]
        assert set(COSTS) <= set(values)
        for value in values:
            chooser.select_option(value)
            assert page.locator("#front .point").count() > 50
            assert "NaN" not in page.locator("#front").inner_html()


def test_other_trials_and_error_bars_can_be_switched_off(opened, source):
    page = opened(source).page
    before = page.locator("#front .point").count()
    page.get_by_label("other trials").uncheck()
    assert page.locator("#front .point").count() < before
    assert page.locator("#front .interval").count() > 0
    page.get_by_label("error bars").uncheck()
    assert page.locator("#front .interval").count() == 0


def test_a_page_prints(opened, source):
    page = opened(source).page
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    overflows = "[...document.querySelectorAll('.scroll')].map(each => getComputedStyle(each).overflow)"
    assert set(page.evaluate(overflows)) == {"visible"}
