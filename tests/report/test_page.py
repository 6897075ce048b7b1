"""The page in a browser: what a reader sees, sorts, follows, prints and hears."""

import re

import large_records
import pytest
import records

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report import render_html
from calib.report.words import anchor

LIMITS = {
    "accuracy_drop_points_max": 1,
    "worst_class_drop_points_max": 1,
    "worst_class_min_samples": 1,
    "flips_pct_max": 50,
    "output_sqnr_db_min": 1,
    "speedup_vs_fp16_min": 1,
    "samples_min": 1000,
}
PHONE, TABLET, DESK = (390, 844), (768, 1024), (1280, 900)
OPEN_ALL = "for (const d of document.querySelectorAll('details')) d.open = true"
TOO_WIDE = """[...document.querySelectorAll('.table, .tabulator, .plot, .uplot, pre, .tools')]
    .filter(e => e.offsetParent && (e.scrollWidth > e.clientWidth + 1
        || e.getBoundingClientRect().right > innerWidth + 1))
    .map(e => `${e.className} ${e.id} ${e.scrollWidth} > ${e.clientWidth}`)"""


def judged(run, **limits):
    return run.model_copy(update={"verdict": evaluate(run, LimitsSpec(**limits))})


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(judged(large_records.large_run(), **LIMITS)), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser):
    """Opens a file at a size; whatever the console says or the page asks for ends the test."""
    contexts, seen = [], []

    def opened(path, size=DESK, fragment="", **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:image/png")) else seen.append(r.url),
        )
        page.goto(path.as_uri() + fragment)
        assert page.url.startswith(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen == []


def written(tmp_path, run):
    path = tmp_path / "report.html"
    path.write_text(render_html(run), encoding="utf-8")
    return path


def test_four_thousand_samples_fit_into_three_megabytes(large):
    assert large.stat().st_size <= 3_000_000


def test_thumbnails_fit_too(tmp_path):
    run = large_records.large_run(picture=large_records.thumbnail(), depth=50)
    assert written(tmp_path, judged(run, **LIMITS)).stat().st_size <= 3_000_000


@pytest.mark.parametrize("size", [PHONE, TABLET, DESK])
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_nothing_is_cut_off_or_scrolls_sideways(large, open_page, size, script):
    path = large if script else large.with_name("plain.html")
    if not script:  # a browser without scripts could not open what is folded
        text = re.sub(r"<script>.*?</script>", "", large.read_text("utf-8"), flags=re.DOTALL)
        path.write_text(text, encoding="utf-8")
    page = open_page(path, size)
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(300)
    assert (page.locator(".tabulator").count() > 0) is script
    assert page.locator(".enhanced > table:visible, .charted > .plot:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate(TOO_WIDE) == []


def test_labels_of_plots_stay_large_enough_to_read(large, open_page):
    page = open_page(large, PHONE, java_script_enabled=False)
    sizes = page.locator("svg text:visible").evaluate_all(
        "texts => texts.map(t => { const m = t.getScreenCTM();"
        " return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b) })"
    )
    assert len(sizes) > 20
    assert min(sizes) >= 11


def test_the_tail_is_searched_filtered_and_sorted(large, open_page):
    page = open_page(large)
    tail = page.locator("#tail")
    count = tail.get_by_role("status")
    assert count.inner_text() == "4,000 rows"
    tail.get_by_label("Search").fill("row: 3999")
    assert count.inner_text() == "1 of 4,000 rows"
    tail.get_by_label("Search").fill("")
    tail.get_by_label("Flip").select_option(label="improved")
    assert count.inner_text() == "40 of 4,000 rows"
    tail.get_by_label("Flip").select_option(label="all")
    head = tail.locator(".tabulator").get_by_role("columnheader", name="Lost margin")
    lost = tail.locator(".tabulator-row").first.locator('[tabulator-field="c7"]')
    head.click()
    assert (head.get_attribute("aria-sort"), lost.inner_text()) == ("descending", "1.5")
    head.click()
    assert (head.get_attribute("aria-sort"), lost.inner_text()) == ("ascending", "0.5002")


def test_layers_are_sorted_by_value_from_the_keyboard(large, open_page):
    page = open_page(large)
    layers = page.locator("#layers")
    layers.locator("summary", has_text="200 tensors").click()
    head = layers.locator(".tabulator").get_by_role("columnheader", name="SQNR")
    head.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    shown = layers.locator('.tabulator-row [tabulator-field="c4"]').all_inner_texts()
    assert len(shown) > 5
    assert [float(text) for text in shown] == sorted(float(text) for text in shown)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_link_from_outside_leads_to_its_row(large, open_page, script):
    sample = large_records.samples(4000)[3].id
    page = open_page(large, fragment=f"#{anchor('sample', sample)}", java_script_enabled=script)
    row = page.locator(".tabulator-row.target:focus" if script else "tr:target")
    row.wait_for()
    assert sample.split("\u2028")[0] in row.inner_text()
    box = row.bounding_box()
    assert -1 <= box["y"] <= DESK[1]


def test_a_link_leads_into_what_is_folded(large, open_page):
    name = large_records.layers(200)[187].tensor
    page = open_page(large, fragment=f"#{anchor('layer', name)}")
    row = page.locator("#layers .tabulator-row.target")
    row.wait_for()
    assert name in row.inner_text()


def test_a_link_leads_far_down(large, open_page):
    page = open_page(large, fragment=f"#{anchor('sample', large_records.samples(4000)[3456].id)}")
    row = page.locator("#tail .tabulator-row.target:focus")
    row.wait_for()
    assert "row: 3456" in row.inner_text()
    assert 0 <= row.bounding_box()["y"] <= DESK[1]


def test_a_reason_leads_to_its_limit_and_that_to_its_evidence(large, open_page):
    page = open_page(large)
    page.locator(".why a", has_text="worst class").click()
    row = page.locator("tr:target")
    assert "worst class" in row.inner_text()
    row.get_by_role("link", name="Classes").click()
    assert page.url.endswith("#classes")
    assert 0 <= page.locator("#classes").bounding_box()["y"] < DESK[1]


def test_each_tensor_has_its_histogram(large, open_page):
    page = open_page(large)
    calibration = page.locator("#calibration")
    tensor = large_records.activations(40)[7].tensor
    calibration.get_by_label("Tensor").select_option(label=tensor)
    assert "entropy 1.175" in calibration.locator(".hover").inner_text()
    assert calibration.locator("canvas").count() == 1


def test_texts_of_samples_stay_texts(large, open_page):
    page = open_page(large, PHONE)
    assert page.locator("#tail img, #tail script, #tail iframe, #tail a").count() == 0
    text = page.locator("#tail .below").first.inner_text()
    assert "<img src=x onerror=alert(1)>" in text
    assert page.title().endswith("</script><script>alert(1)</script>")


@pytest.fixture(scope="module")
def middling(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    run = large_records.large_run(12, 12, large_records.thumbnail())
    path.write_text(render_html(judged(run, **LIMITS)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_axe_finds_nothing_serious(middling, open_page, size, scheme):
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(middling, size, color_scheme=scheme, bypass_csp=True)
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(300)
    found = sync_playwright.Axe().run(page).response["violations"]
    serious = [
        (v["id"], v["nodes"][0]["html"][:300], v["nodes"][0]["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_print_is_light_whole_and_without_controls(large, open_page):
    page = open_page(large, (718, 1000), color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".tabulator:visible, .uplot:visible, .tools:visible").count() == 0
    text = page.locator("#tail-table tr.below td").first.bounding_box()
    assert text["width"] > 500
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate(TOO_WIDE) == []


def odd_runs():
    bare = {"score": None, "flips": None, "layers": (), "tail": (), "latency": (), "engines": ()}
    empty = records.run(records.candidate("fp32", **bare), records.candidate(**bare, outputs=()))
    return {
        "✓ Pass": judged(records.run(), flips_pct_max=9),
        "✗ Fail": judged(records.run(), flips_pct_max=2),
        "≈ Inconclusive": judged(records.run(), flips_pct_max=5),
        "? No evidence": judged(empty, accuracy_drop_points_max=1, speedup_vs_fp16_min=1),
    }


@pytest.mark.parametrize("words", ["✓ Pass", "✗ Fail", "? No evidence", "≈ Inconclusive"])
def test_every_verdict_says_why_and_what_to_do_on_the_first_screen(tmp_path, open_page, words):
    page = open_page(written(tmp_path, odd_runs()[words]))
    assert page.locator("h1").inner_text().startswith(words)
    for name in (".why li", ".next li", ".figure .big"):
        box = page.locator(name).first.bounding_box()
        assert box["y"] + box["height"] <= DESK[1]
    assert page.locator(".why .tag").first.inner_text() == words
    assert page.evaluate("document.documentElement.scrollWidth") <= DESK[0]
