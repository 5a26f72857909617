"""The page of `keras-misa report` in a real browser: it is all there, fits, and asks for nothing.

Needs Playwright (`pip install -e '.[browser]'`) and a Chromium on the path.
"""

import re
import shutil

import numpy as np
import pytest
from small_runs import write_results, write_run

from keras_misa.reports import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: the browser extra")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"There is no {', '.join(NAMES)} on the path")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
OUTSIDE = '<img src="http://outside.invalid/x.png">'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 1.5, 30)
    for model in ("misa", "a_model_whose_name_is_rather_long"):
        for seed in (1, 2):
            run = root / model / f"seed-{seed}"
            write_run(run, {"text": None, "visual": 3, "acoustic": 2}, seed=seed, dataset="cmu_mosi")
            write_results(run, labels, labels + rng.normal(size=30), seed=seed)
    write_report([root / "misa", root / "a_model_whose_name_is_rather_long"], root / "page.html", data_dir=root)
    return root / "page.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        try:  # Containers run as root, where Chromium's sandbox cannot, and have a small /dev/shm.
            arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=60_000)
        except playwright.Error as error:
            pytest.skip(f"{CHROMIUM} does not start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def open_page(browser, path, width=1280, height=900, **kwargs):
    """The page, the addresses that it has asked for, and what the console says."""
    page = browser.new_page(viewport={"width": width, "height": height}, **kwargs)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri(), wait_until="networkidle")
    return page, [url for url in asked if url != path.as_uri() and not url.startswith("data:")], said


def contrast(*colours):
    """Of WCAG 2.2, of two colours as `rgb(1, 2, 3)`; 4.5 is enough for text."""
    luminances = []
    for colour in colours:
        channels = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        luminances.append(linear @ [0.2126, 0.7152, 0.0722])
    dark, light = sorted(luminances)
    return (light + 0.05) / (dark + 0.05)


def test_a_request_would_be_seen_and_stopped(browser, report, tmp_path):
    """The other tests' oracle: an image from outside shows, and the page's own policy keeps it from being loaded."""
    path = tmp_path / "page.html"
    path.write_text(report.read_text(encoding="utf-8").replace("</main>", f"{OUTSIDE}</main>"), encoding="utf-8")
    _, asked, said = open_page(browser, path)
    assert asked == ["http://outside.invalid/x.png"]
    assert any("Content Security Policy" in text for text in said)
    path.write_text(f"<!doctype html><title>x</title>{OUTSIDE}", encoding="utf-8")
    _, asked, said = open_page(browser, path)
    assert asked == ["http://outside.invalid/x.png"]
    assert not any("Content Security Policy" in text for text in said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_all_there_and_asks_for_nothing(browser, report, size, scheme):
    page, asked, said = open_page(browser, report, *SIZES[size], color_scheme=scheme)
    assert (asked, said) == ([], [])
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) == 1 + 2 * 4  # the regularisers of both; topology, attention, predictions, confusion of each
    assert all(loaded)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= SIZES[size][0]  # tables scroll, the page does not
    for selector in ("p", "figcaption", "summary", "a"):
        colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(colour, page.evaluate("getComputedStyle(document.body).backgroundColor")) >= 4.5, selector
    page.close()


def test_links_lead_to_sections(browser, report):
    page, _, _ = open_page(browser, report)
    links = page.locator("nav a")
    for number in range(links.count()):
        links.nth(number).click()
        target = page.evaluate("document.querySelector(':target').getBoundingClientRect().top")
        at_end = page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 1")
        assert at_end or abs(target) < 100
    page.locator("details summary").first.click()
    assert page.locator("details").first.evaluate("element => element.open")


def test_it_prints(browser, report, tmp_path):
    page, asked, said = open_page(browser, report)
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (asked, said) == ([], [])
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
