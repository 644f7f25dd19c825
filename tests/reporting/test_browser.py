"""The page of the report in a real browser."""

import shutil

import pytest

from advfool.reporting import wording
from tests.helpers.fake_runs import BROKEN, NASTY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


ARGUMENTS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


ARGUMENTS += " --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: install it to test the page")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split(), timeout=0)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(browser, sweep):
    """The report at a desk; whatever it complains of, or asks of others, is collected in page.complaints."""
    found = opened(browser, sweep, 1440)
    yield found
    found.context.close()


def opened(browser, sweep, width, **options):
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.set_default_timeout(0)  # pytest's own is the only one
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(local) or page.complaints.append(request.url))
    page.goto((sweep / "report.html").as_uri())
    return page


def choose(page, form, name, label):
    page.select_option(f"#{form} select[name={name}]", label=label)


def options(page, form, name):
    return page.locator(f"#{form} select[name={name}] option").all_inner_texts()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_the_page_draws_everything_without_complaint(page):
    for plot in ("transfer", "tradeoff", "training", "aopc"):
        assert page.locator(f"#{plot}-plot svg.main-svg").count() > 0
        assert len(page.get_attribute(f"#{plot}-plot", "aria-label")) > 30
    assert page.locator("#cards figure").count() == 4
    assert page.complaints == []


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows_on_a_phone_and_at_a_desk(browser, sweep, page, width):
    shown = page if width == 1440 else opened(browser, sweep, width)
    every = "open => document.querySelectorAll('details').forEach(details => { details.open = open; })"
    assert overflow(shown) <= 0
    choose(shown, "run-pick", "model", "resnet_tiny")
    choose(shown, "run-pick", "interp", "Grad-CAM")
    choose(shown, "run-pick", "run", f"seed 0, {BROKEN}")
    shown.evaluate(every, True)
    shown.wait_for_selector("details[data-of=training-plot] table")
    assert overflow(shown) <= 0
    outside = "e => [...e.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, pre, .hidden') && "
    outside += "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert shown.locator("body").evaluate(outside) == []
    shown.evaluate(every, False)
    assert "no example images" in shown.inner_text("#gallery-none")
    choose(shown, "run-pick", "run", "seed 0, a")
    assert shown.complaints == []


def test_the_gallery_switches_image_fooling_and_interpreter(page):
    choose(page, "run-pick", "model", "resnet_tiny")
    choose(page, "run-pick", "fooling", "Location")
    choose(page, "run-pick", "interp", "Grad-CAM")
    caption = page.locator("#gallery-caption")
    assert "Heatmaps by Grad-CAM: 4 images, sorted by the test loss" in caption.inner_text()
    roles = page.locator("#cards .role").all_inner_texts()
    assert roles == ["best", "fixed", "median", "worst"]
    drawn = "document.querySelector('#cards canvas').toDataURL()"
    first = page.evaluate(drawn)
    choose(page, "gallery-pick", "interp", "LRP")
    assert "Heatmaps by LRP:" in caption.inner_text()
    assert page.evaluate(drawn) != first
    assert page.locator("#scale-low").inner_text() == f"{wording.MINUS}1"
    choose(page, "gallery-pick", "image", "worst: test image 12, 3")
    assert page.locator("#cards figure").count() == 1
    assert "worst, test image 12" in caption.inner_text()
    choose(page, "run-pick", "run", "seed 1")
    assert "seed 1" in caption.inner_text()
    assert "worst, test image 12" in caption.inner_text()  # the same image of another run
    page.click("#gallery-pick button[name=next]")
    assert page.locator("#cards figure").count() == 4
    choose(page, "run-pick", "fooling", "Active")
    assert "test composite" in page.locator("#cards").inner_text()
    assert page.locator("#cards figure:first-child canvas").count() == 4  # two networks, two classes
    choose(page, "run-pick", "model", "vgg_tiny")
    assert options(page, "run-pick", "fooling") == ["Top-k"]
    assert page.complaints == []


def test_every_picture_and_map_says_what_it_is(page):
    choose(page, "run-pick", "model", "resnet_tiny")
    choose(page, "run-pick", "fooling", "Location")
    choose(page, "gallery-pick", "image", "all 4, from best to worst")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    # grey copies under a map are decoration; each image itself is described once
    assert page.locator("#cards img[alt^='test ']").count() == page.locator("#cards figure").count()
    for what, has_no_name in (
        ("#cards canvas", "!e.getAttribute('aria-label')"),
        ("img", "!e.hasAttribute('alt') || !e.naturalWidth"),
        ("select, button", "!(e.closest('label') || e.textContent)"),
        ("table", "!e.caption && !e.closest('.numbers')"),
    ):
        assert page.evaluate(f"[...document.querySelectorAll('{what}')].filter(e => {has_no_name}).length") == 0, what


def test_the_keyboard_reaches_and_changes_everything(page):
    choose(page, "transfer-pick", "model", "resnet_tiny")
    page.locator("#transfer-pick select[name=fooling]").focus()
    before = page.get_attribute("#transfer-plot", "aria-label")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#transfer-plot", "aria-label") != before
    page.locator("details[data-of=transfer-plot] summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("details[data-of=transfer-plot] table tr")  # made once the browser has told of the opening
    assert page.locator("details[data-of=transfer-plot] table tr").count() >= 2
    page.locator("#all-runs thead button").nth(5).focus()
    page.keyboard.press("Enter")
    first = "#all-runs tbody tr:first-child td:nth-child(6)"
    assert "30.0" in page.inner_text(first)
    page.keyboard.press("Enter")
    assert "100.0" in page.inner_text(first)
    assert page.get_attribute("#all-runs thead th:nth-child(6)", "aria-sort") == "descending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    assert page.complaints == []


def test_numbers_lead_to_the_configs_of_their_runs(page):
    mean = page.locator("#tables a[data-runs]").first
    mean.click()
    opened_runs = page.locator("details.run[open]").all()
    assert len(opened_runs) == 2
    for run in opened_runs:
        assert "optimizer:" in run.inner_text()
    page.locator("details.run[open] a.show").first.click()
    assert page.evaluate("location.hash") == "#one"
    point = "#tradeoff-plot .scatterlayer .trace:nth-child(2) .points path"
    page.locator(point).first.click(force=True)
    assert page.evaluate("location.hash").startswith("#run-")


def test_the_theme_follows_the_system_and_the_button(page):
    page.emulate_media(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#aopc-plot .xtick text')).fill"
    light = page.evaluate(paper), page.evaluate(ink)
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(19, 21, 24)"
    assert page.evaluate(ink) != light[1]
    assert page.inner_text("#theme") == "Light"
    page.click("#theme")
    assert (page.evaluate(paper), page.evaluate(ink)) == light


def test_names_are_shown_and_never_run(page):
    choose(page, "run-pick", "model", NASTY)
    assert NASTY in page.inner_text("#gallery-caption")
    assert f"says {NASTY}, 75 %" in page.inner_text("#cards")
    choose(page, "transfer-pick", "model", NASTY)
    assert NASTY in page.get_attribute("#transfer-plot", "aria-label")
    assert NASTY in page.inner_text("#all-runs")
    assert f"Diverged {NASTY}. Lower optimizer.lr." in page.inner_text("#summary")
    assert NASTY in page.locator("#tradeoff-plot .legend").text_content()
    assert page.evaluate("[...document.scripts].length") == 3
    assert page.complaints == []


def test_it_prints(page, tmp_path):
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    assert page.locator("#aopc-plot svg.main-svg").first.evaluate("svg => svg.clientWidth") > 900  # and back
