"""The page in a real browser: what lights up, what it says, how wide it is, and that it asks nobody for anything."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twoview
from report.made import GRID, PATCHES, write_made
from twoview.cli import main
from twoview.report import write_report
from twoview.shards import read_manifest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="no chromium-driver on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of pairs that are kept, that are stored and refused, and that are refused and read again."""
    out = shutil.copytree(wide, tmp_path_factory.mktemp("page") / "pairs")
    return write_report(out)


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    set_screen(browser, 1300, 1000)
    browser.get(page.as_uri())
    return browser


def set_screen(browser: Any, width: int, height: int, touch: bool = False) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


def centre_of(browser: Any, view: Any, patch: int, grid: list[int]) -> tuple[float, float]:
    """Where on the screen a patch of a view is."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", view)
    box = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", view)
    row, column = divmod(patch, grid[1])
    return box[0] + (column + 0.5) * box[2] / grid[1], box[1] + (row + 0.5) * box[3] / grid[0]


def move_mouse(browser: Any, x: float, y: float) -> None:
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})


def lit(view: Any) -> tuple[int, str, float, float] | None:
    """Patch, class and place (in patches from the left and the top) of what is lit in a view."""
    marks = view.find_elements("css selector", "rect.mark")
    if not marks or marks[0].get_attribute("visibility") == "hidden":
        return None
    mark = marks[0]
    x, y = (float(mark.get_attribute(name)) for name in "xy")
    return int(mark.get_attribute("data-patch")), mark.get_attribute("class"), x, y


def cards(browser: Any) -> list[Any]:
    return [card for card in browser.find_elements("css selector", ".pair") if card.find_elements("css selector", "[tabindex]")]


def test_pointing_lights_the_counterpart(opened: Any, wide: Path) -> None:
    """Against patches.npy, read by other code; the place on the screen too."""
    samples = {sample.row.key: sample for sample in twoview.open(wide)}
    checked, without = 0, 0
    for card in cards(opened)[:6]:
        sample = samples[card.get_attribute("data-key")]
        grid = sample.row.patch_grid
        assert grid is not None
        views = card.find_elements("css selector", ".view")
        for side in (0, 1):
            for patch in (0, 17, 100, 118, 195):
                move_mouse(opened, *centre_of(opened, views[side], patch, grid))
                assert lit(views[side]) == (patch, "mark", patch % grid[1], patch // grid[1])
                there = int(sample.patches[side][patch])
                said = card.find_element("css selector", "output").text
                if there < 0:
                    assert lit(views[1 - side]) is None
                    assert f"patch {patch} of {'ab'[side]} " in said
                    without += 1
                else:
                    assert lit(views[1 - side]) == (there, "mark there", there % grid[1], there // grid[1])
                    assert said == f"patch {patch} of {'ab'[side]}, patch {there} of {'ab'[1 - side]}"
                    checked += 1
    assert checked > 10
    assert without > 10


def test_a_grid_that_is_not_square(browser: Any, tmp_path: Path) -> None:
    set_screen(browser, 1300, 1000)
    browser.get(write_report(write_made(tmp_path / "made")).as_uri())
    card = cards(browser)[0]
    views, says = card.find_elements("css selector", ".view"), card.find_element("css selector", "output")
    for side, patch in ((0, 30), (0, 71), (1, 12), (1, 59)):
        move_mouse(browser, *centre_of(browser, views[side], patch, list(GRID)))
        there = int(PATCHES[side][patch])
        assert lit(views[side]) == (patch, "mark", patch % 12, patch // 12)
        assert lit(views[1 - side]) == (there, "mark there", there % 12, there // 12)
    for side, patch, words in ((0, 3, "is occluded in the other view"), (1, 70, "has a counterpart already")):
        move_mouse(browser, *centre_of(browser, views[side], patch, list(GRID)))
        assert lit(views[1 - side]) is None
        assert says.text.endswith(words)


def test_the_lit_patch_is_where_the_pointer_is(opened: Any) -> None:
    card = cards(opened)[0]
    view = card.find_element("css selector", ".view")
    x, y = centre_of(opened, view, 118, [14, 14])
    move_mouse(opened, x, y)
    box = opened.execute_script(
        "const b = arguments[0].querySelector('rect.mark').getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]", view
    )
    assert box[0] < x < box[2]
    assert box[1] < y < box[3]
    move_mouse(opened, 2, 2)
    assert lit(view) is None
    assert card.find_element("css selector", "output").text == ""


def test_refused_pairs_that_are_stored_light_up_too(opened: Any, wide: Path) -> None:
    refused = {r["key"] for r in read_manifest(wide).to_pylist() if r["stored"] and not r["kept"]}
    assert refused & {card.get_attribute("data-key") for card in cards(opened)}


def test_keys(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.find_element("css selector", "body").send_keys(Keys.TAB)
    view = opened.switch_to.active_element
    assert "view" in view.get_attribute("class")
    assert lit(view) is not None
    assert lit(view)[0] == 7 * 14 + 7
    for key, patch in ((Keys.ARROW_RIGHT, 7 * 14 + 8), (Keys.ARROW_UP, 6 * 14 + 8), (Keys.ARROW_LEFT, 6 * 14 + 7)):
        view.send_keys(key)
        assert lit(view)[0] == patch
    for _ in range(9):
        view.send_keys(Keys.ARROW_DOWN)
    assert lit(view)[0] == 13 * 14 + 7
    view.send_keys(Keys.ESCAPE)
    assert lit(view) is None


def test_a_finger(opened: Any) -> None:
    set_screen(opened, 400, 800, touch=True)
    view = cards(opened)[0].find_element("css selector", ".view")
    x, y = centre_of(opened, view, 60, [14, 14])
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        opened.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert lit(view) is not None
    assert lit(view)[0] == 60


@pytest.mark.parametrize("width", [360, 480, 761, 1024, 1600])
def test_no_width_scrolls_sideways(width: int, opened: Any) -> None:
    set_screen(opened, width, 900)
    for details in opened.find_elements("css selector", "details"):
        opened.execute_script("arguments[0].open = true", details)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    beyond = """return [...document.querySelectorAll('main *')].filter(e => !e.closest('pre') &&
        e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert opened.execute_script(beyond) == []


def luminance(browser: Any, element: str, name: str) -> float:
    colour = browser.execute_script(f"return getComputedStyle(document.querySelector('{element}')).getPropertyValue('{name}')")
    red, green, blue = (int(part) / 255 for part in colour.strip("rgba()").split(",")[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_light_and_dark(opened: Any) -> None:
    """Both as the reader's system says, with words that can be read: contrast as WCAG counts it, at least 4.5."""
    grounds = {}
    for mode in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        grounds[mode] = luminance(opened, "body", "background-color")
        words = (("h1", "body"), (".soft", "body"), (".pair .text", ".pair"), (".pair .soft", ".pair"), ("dt", "dl div"))
        for element, ground in words:
            light, dark = sorted((luminance(opened, element, "color"), luminance(opened, ground, "background-color")), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (mode, element)
    assert grounds["light"] > 0.8
    assert grounds["dark"] < 0.05


def test_counts_are_the_manifest_s(opened: Any, wide: Path) -> None:
    rows = read_manifest(wide).to_pylist()
    assert opened.find_element("id", "num-kept").text == str(sum(r["kept"] for r in rows))
    assert opened.find_element("id", "num-pairs").text == str(len(rows))
    shown = {e.get_attribute("data-reason"): int(e.text) for e in opened.find_elements("css selector", "[data-reason]")}
    assert shown == {reason: sum(reason in r["reasons"] for r in rows) for reason in {x for r in rows for x in r["reasons"]}}


def test_no_error_and_no_request(browser: Any, page: Path) -> None:
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    for card in cards(browser)[:2]:
        move_mouse(browser, *centre_of(browser, card.find_element("css selector", ".view"), 50, [14, 14]))
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.execute_script("return document.images.length") > 10


def test_names_are_shown_as_they_are(browser: Any, walk: Path, tmp_path: Path) -> None:
    """A folder that is called like code."""
    folder = tmp_path / "<img src=x onerror=alert(1)>&amp;'\"</script>"[:60].replace("/", "")
    folder.mkdir()
    shutil.copy(walk, folder / "{{ 7 * 7 }}.mp4")
    flags = ("--workers", "1", "--size", "112", "--overlap", "0.1:0.95", "--store", "0:1")
    assert main(["curate", str(folder), "--out", str(tmp_path / "out"), *flags]) == 0
    browser.get(write_report(tmp_path / "out").as_uri())
    assert folder.name in browser.find_element("css selector", ".scenes tbody td").text
    assert "{{ 7 * 7 }}.mp4" in browser.find_element("css selector", ".pair .soft").text
    assert browser.get_log("browser") == []
    view = cards(browser)[0].find_element("css selector", ".view")
    move_mouse(browser, *centre_of(browser, view, 50, [14, 14]))
    assert lit(view) is not None
