"""The report in a real headless browser, at the width of a desk and of a phone, in the dark, and on paper."""

import os
import pathlib
import shutil

import pytest
from nights import DAY
from report_nights import ONE_DAY, changes_tree, write_night

from beam_jobs.report.writing import write_report
from beam_jobs.warehouses.duckdb.warehouse import DuckDBWarehouse
from beam_jobs.workspace.storage import write_json

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
KINDS = ("regression", "binary", "multiclass", "foreign", "refused")
LONG_WORD = "a-word-without-a-space-" * 12


def unavailable(reason):
    """Skips with the reason, where a browser is not asked for."""
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        unavailable(f"none of {', '.join(BROWSERS)} is installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of each kind of night, with a night before it, and everything in it that may be too long."""
    written = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        task = "regression" if kind == "refused" else kind
        changes = {"description": f"{LONG_WORD} {'and so on ' * 40}"}
        write_night(folder, task, run_id="r0", date=DAY - ONE_DAY, night_value=1, job_changes=changes)
        run = write_night(folder, task, until="precompute" if kind == "refused" else "publish", job_changes=changes)
        if kind == "refused":
            write_json(run.file("changes.json"), changes_tree())
            outcome = {"status": "refused", "exit_code": 3, "line": f"check {LONG_WORD} failed", "stage": "publish"}
            write_json(run.file("outcome.json"), outcome | {"finished_at": "2024-01-01T03:00:00+00:00"})
        warehouse = DuckDBWarehouse(str(folder / "natality" / "natality.duckdb"))
        written[kind] = pathlib.Path(write_report(f"jobs/{LONG_WORD}.yaml", run.path, warehouse))
    return written


@pytest.fixture
def open_page(browser):
    """Opens a file and keeps whatever goes wrong with it."""
    contexts = []

    def opened(path, width, **settings):
        context = browser.new_context(viewport={"width": width, "height": 812}, **settings)
        contexts.append(context)
        page, problems, requests = context.new_page(), [], []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page, problems, requests

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_fits_and_asks_for_nothing(pages, open_page, kind, width, scheme):
    page, problems, requests = open_page(pages[kind], width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert problems == []
    assert [url for url in requests if not url.startswith("data:")] == [pages[kind].as_uri()]
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0, page.evaluate(_WIDER_THAN_THE_PAGE)
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(21, 24, 27)",
        }[scheme]
    )


@pytest.mark.parametrize("width", [1280, 375], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_there_with_marks_and_readable_text(pages, open_page, kind, width):
    page, *_ = open_page(pages[kind], width)
    drawings = page.evaluate(_DRAWINGS)
    assert len(drawings) >= (3 if kind == "refused" else 5)
    for drawing in drawings:
        assert drawing["width"] > 250, drawing
        assert drawing["height"] > 60, drawing
        assert drawing["marks"] > 3, drawing
        assert drawing["text_pixels"] > 8.5, drawing  # on a phone too
        assert drawing["said"], drawing
        assert drawing["left_over"] <= 2, drawing  # no label beyond the page


@pytest.mark.parametrize("kind", ["regression", "refused"])
def test_the_page_prints(pages, open_page, kind):
    page, *_ = open_page(pages[kind], 1280)
    document = page.pdf(format="A4", prefer_css_page_size=True)
    assert document.startswith(b"%PDF")
    sheets = document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") + document.count(b"/Type /Page/")
    assert 1 < sheets < 12
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


_WIDER_THAN_THE_PAGE = """
[...document.querySelectorAll('body *')].filter(
    element => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).slice(0, 5).map(element => element.outerHTML.slice(0, 200))
"""
_DRAWINGS = """
[...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  const shown = [...svg.querySelectorAll('path, use')].filter(mark => {
    const style = getComputedStyle(mark);
    return style.fill !== 'none' || style.stroke !== 'none';
  });
  return {
    width: box.width,
    height: box.height,
    marks: shown.length,
    said: svg.getAttribute('aria-label'),
    text_pixels: Math.min(...[...svg.querySelectorAll('text')].map(
      text => parseFloat(getComputedStyle(text).fontSize) * box.width / svg.viewBox.baseVal.width)),
    left_over: Math.max(...texts.map(text => Math.max(text.right - document.documentElement.clientWidth, -text.left))),
  };
})
"""
