"""A report in a real browser, at the widths of a screen and of a phone, in light and in dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser

from dsdq.sim.report import report
from dsdq.sim.rows import with_reach
from tests.dsdq.sim.report.results import HOSTILE, compared, planned, ran, swept
from tests.dsdq.sim.small import small

PICTURES = """() => [...document.querySelectorAll('[role=img]')].map(picture => {
  const box = picture.getBoundingClientRect();
  return {label: picture.getAttribute('aria-label'), left: box.left, right: box.right, height: box.height};
})"""
STROKES = "() => [...document.querySelectorAll('figure g.c0 .line')].map(line => getComputedStyle(line).stroke)"
SPILLED = """() => [...document.querySelectorAll('svg[role=img] text')].filter(text => {
  const box = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
  return box.left < all.left - 1 || box.right > all.right + 1;
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of all kinds of results, one of which has a hostile text."""
    found = [
        ran(small(about=HOSTILE)),
        compared(),
        swept("window.policy=static:1,static:3", "devices.*.link.rtt_ms=10,50,300"),
        planned(),
    ]
    written = tmp_path_factory.mktemp("report") / "report.html"
    written.write_text(report(found), encoding="utf-8")
    return written


async def looked_at(
    browser: Browser, file: Path, width: int, scheme: Literal["light", "dark"] = "light"
) -> dict[str, Any]:
    """Open a file, and return what is seen of it, what the browser complained about, and what it asked for."""
    page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, asked = list[str](), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(file.as_uri())
    seen = {
        "title": await page.title(),
        "text": await page.locator("body").inner_text(),
        "width": await page.evaluate("document.documentElement.scrollWidth"),
        "pictures": await page.evaluate(PICTURES),
        "spilled": await page.evaluate(SPILLED),
        "strokes": await page.evaluate(STROKES),
        "ground": await page.evaluate("getComputedStyle(document.body).backgroundColor"),
    }
    await page.close()
    return seen | {"complaints": complaints, "asked": asked}


@pytest.mark.parametrize("width", [1280, 390])
async def test_every_picture_is_seen_and_nothing_is_asked_for(browser: Browser, file: Path, width: int) -> None:
    seen = await looked_at(browser, file, width)
    assert seen["complaints"] == []
    assert seen["asked"] == [file.as_uri()]
    assert seen["width"] == width  # nobody has to scroll sideways
    assert len(seen["pictures"]) > 30
    for picture in seen["pictures"]:
        assert 0 <= picture["left"] < picture["right"] <= width, picture["label"]
        assert picture["right"] - picture["left"] > 250, picture["label"]
        assert picture["height"] > 30, picture["label"]
    assert seen["spilled"] == []
    assert seen["title"] == "small: simulated with dsdq"
    assert HOSTILE in seen["text"]
    for way in ran().ways.values():
        assert with_reach(way, "tokens_per_s") in seen["text"]


async def test_it_is_dark_where_that_is_wanted(browser: Browser, file: Path) -> None:
    light, dark = [await looked_at(browser, file, 1280, scheme) for scheme in ("light", "dark")]
    assert light["ground"] != dark["ground"]
    assert set(light["strokes"]).isdisjoint(dark["strokes"])
