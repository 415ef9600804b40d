"""The inspector's page in Chromium: what it shows, what can be done with it, and its safety."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from stapo_pl.insight.inspector.data import page_data
from stapo_pl.insight.inspector.page import render
from stapo_pl.insight.inspector.pieces import Pieces
from support.recorded import HOSTILE, TEXTS, Folder, large

pytestmark = pytest.mark.browser

TAGGED = "<b>" + HOSTILE  # Plotly would take the tag for a bold face
SILENCED, KEPT, WRONG = ".silenced-list .card", ".kept-list .card", ".wrong-list .card"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """The page of a run of two rollouts, in which the model wrote HTML and scripts."""
    made = Folder(tmp_path_factory.mktemp("run") / "version_0")
    made.write(TEXTS, rollout=0, step=1, advantages=[1.0, -1.0, 1.0], rare=(1, 3), kept_rare=(2,))
    made.write(TEXTS[:2], rollout=1, step=3, rare=(0,))
    made.write_curves(4)
    return written(made, {"So": TAGGED})


def written(made: Folder, tokens: dict[str, str] | None = None) -> Path:
    """Writes the page of a run. Some of its tokens have another text, as if it had been learned."""
    text, other = Pieces.text, tokens or {}

    def changed(pieces: Pieces, id: int) -> str:
        return other.get(text(pieces, id), text(pieces, id))

    with patch.object(Pieces, "text", changed):
        data = page_data(made.folder, made.tokenizer)
    file = made.folder / "inspect.html"
    file.write_text(render(data))
    return file


@pytest.fixture
def page(browser, recorded) -> Iterator:
    yield from opened(browser, recorded)


def opened(browser, file: Path) -> Iterator:
    """Opens a page, and checks at its end that it reported no error and asked for nothing."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert said == []
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}
    page.close()


def drawn(page, chart: str):
    """Goes to a chart, which is then drawn."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{chart} .scatterlayer .trace")
    return page.locator(f"#{chart}")


def test_rare_tokens_stand_in_three_lists(page):
    assert [page.locator(cards).count() for cards in (SILENCED, KEPT, WRONG)] == [6, 2, 3]
    card = page.locator(SILENCED).first
    text = card.inner_text()
    assert "p 0.001" in text and "H 0.1" in text and "A 1" in text and "ratio 1.1" in text
    assert "p↓ H↓ A+" in text and card.locator(".alternatives li").count() == 5
    assert card.locator(".alternatives li").first.inner_text().endswith(" 0.9")


def test_lists_are_filtered_and_sorted(page):
    page.fill("#rare-filters [name=step]", "2-9")
    assert [page.locator(cards).count() for cards in (SILENCED, KEPT, WRONG)] == [2, 0, 0]
    assert "(2 of 6)" in page.locator(".silenced-list h3").inner_text()
    page.click("#rare-filters [type=reset]")
    page.wait_for_function(f"document.querySelectorAll({SILENCED!r}).length == 6")
    page.select_option("#rare-filters [name=class]", label="p↓ H↑ A+")
    assert [page.locator(cards).count() for cards in (SILENCED, KEPT, WRONG)] == [0, 2, 0]
    page.select_option("#rare-filters [name=class]", "")
    page.fill("#rare-filters [name=token]", "␣")
    tokens = page.locator(f"{SILENCED} .context .token").all_inner_texts()
    assert tokens and all("␣" in token for token in tokens)
    page.fill("#rare-filters [name=token]", "")
    page.fill("#rare-filters [name=prompt]", "101")
    assert page.locator(SILENCED).count() == 1
    page.fill("#rare-filters [name=prompt]", "")
    page.select_option("#rare-filters [name=sort]", "step")
    page.check("#rare-filters [name=descending]")
    assert "step 3" in page.locator(SILENCED).first.inner_text()


def test_a_card_opens_its_completion_at_the_token(page):
    page.fill("#rare-filters [name=prompt]", "101")
    page.locator(SILENCED).get_by_text("Show the completion").click()
    assert "What is 101?" in page.locator("#completion .question").inner_text()
    assert page.evaluate("document.activeElement.classList.contains('silenced')")
    assert "p 0.001" in page.locator("#tip").inner_text()


def test_silenced_tokens_are_marked_without_colour(page):
    token = page.locator("#completion .text .silenced").first
    style = token.evaluate("n => [getComputedStyle(n).textDecorationLine, n.offsetHeight > 0, "
                           "getComputedStyle(n).borderTopWidth]")  # fmt: skip
    assert style == ["line-through", True, "2px"]


def test_tokens_are_coloured_by_p_h_class_or_mask(page):
    def backgrounds() -> list[str]:
        return page.locator("#completion .text .token").evaluate_all(
            "nodes => nodes.map(n => n.style.background)"
        )

    seen = []
    for colour in ("p", "entropy", "class"):
        page.select_option("#completion-filters [name=colour]", colour)
        assert len(set(backgrounds())) > 1, colour
        seen.append(backgrounds())
    assert seen[0] != seen[1] != seen[2]
    page.select_option("#completion-filters [name=colour]", "mask shadow")
    dropped = page.locator("#completion .text .token").evaluate_all(
        "nodes => nodes.map(n => n.classList.contains('dropped'))"
    )
    assert dropped == [place % 2 == 1 for place in range(len(dropped))]
    assert page.locator("#completion .text .silenced").count() == 2
    assert "shadow would silence" in page.locator("#legend").inner_text()


def test_hovering_shows_the_numbers(page):
    page.locator("#completion .text .token").nth(4).hover()
    tip = page.locator("#tip").inner_text()
    assert re.search(r"p 0\.5\nH 1\nA 1\nratio 1\.1\nsampler . trainer 0", tip) and "kept" in tip
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()


def test_the_keyboard_goes_from_token_to_token(page):
    page.locator("#completion .text").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "place 2)" in page.locator("#tip").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "place 1)" in page.locator("#tip").inner_text()


def test_text_of_the_model_stays_text(page):
    buttons = page.locator("#completion-list button")
    shown = set()
    for number in range(buttons.count()):
        buttons.nth(number).click()
        shown.add(page.locator("#completion .text").inner_text().count(HOSTILE))
        page.locator("#completion .text .token").first.hover()
    assert shown == {0, 1}
    texts = page.locator(f"{SILENCED} .context .token").all_inner_texts()
    assert TAGGED.replace(" ", "␣") in texts
    assert "</script>" in page.locator("#frequent-tables").inner_text()
    plane = drawn(page, "plane-chart")
    for number in range(6):
        point = [{"curveNumber": 1, "pointNumber": number}]
        page.evaluate("point => Plotly.Fx.hover('plane-chart', point)", point)
        page.wait_for_timeout(200)  # Plotly shows no more than a few a second
        if "<b></script>" in plane.locator(".hoverlayer").text_content():
            break
    else:
        raise AssertionError("no point of the plane names the hostile token")
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0


def test_a_click_on_a_point_shows_the_rollout(page):
    point = drawn(page, "curves").locator(".scatterlayer .trace").nth(1).locator(".point").nth(3)
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.input_value("#completion-filters [name=rollout]") == "1"
    assert page.locator("#completion-list button").count() == 2
    assert "rollout 1" in page.locator("#completion .numbers").inner_text()


def test_completions_are_chosen_by_verdict_and_silenced_tokens(page):
    page.select_option("#completion-filters [name=verdict]", "false")
    assert page.locator("#completion-list button").count() == 1
    page.select_option("#completion-filters [name=verdict]", "")
    page.check("#completion-filters [name=silenced]")
    assert page.locator("#completion-list button").count() == 4


def test_charts_and_tables_are_there(page):
    for chart, traces in (("plane", 3), ("class", 9), ("gap", 4)):
        shown = drawn(page, f"{chart}-chart").locator(".scatterlayer .trace")
        assert shown.count() == traces, chart
    assert page.locator("#plane-chart .heatmaplayer image").count() == 1
    assert page.locator("#gap-table tbody tr").count() == 3
    assert "words" in page.locator("#frequent-tables").inner_text()


def test_colours_follow_the_system(page):
    title = drawn(page, "plane-chart").locator(".xtitle")
    light = title.evaluate("n => n.style.fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("getComputedStyle(document.body).backgroundColor == 'rgb(22, 24, 28)'")
    page.wait_for_function(
        "light => document.querySelector('#plane-chart .xtitle').style.fill != light", arg=light
    )


@pytest.mark.parametrize("width", [800, 1400])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_run_without_records_says_what_to_switch_on(browser, tmp_path):
    made = Folder(tmp_path / "version_0")
    made.write_curves(4)
    for page in opened(browser, written(made)):
        assert page.locator(".missing").count() == 6
        assert "recorder.tokens=all" in page.locator("#rare .missing").inner_text()
        assert drawn(page, "curves").locator(".scatterlayer .trace").count() == 4


def test_printing_draws_all_charts(page):
    assert page.locator("#gap-chart .trace").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#gap-chart .scatterlayer .trace").count() == 4


def test_100_000_tokens_add_less_than_half_to_the_time_of_an_empty_page(browser, tmp_path):
    large(tmp_path / "version_0", tokens=100_000)
    without = Folder(tmp_path / "version_1")
    without.write_curves(4)
    files = [written(Folder(tmp_path / "version_0")), written(without)]
    times = {file: [] for file in files}
    for file in files * 4:
        start = time.perf_counter()
        for page in opened(browser, file):
            page.wait_for_selector("#curves .scatterlayer .trace")
            times[file].append(time.perf_counter() - start)
            if file is files[0]:
                assert page.evaluate("DATA.tokens.p.length") > 95_000
    assert min(times[files[0]]) < 1.5 * min(times[files[1]]), times
