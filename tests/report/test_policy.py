"""What the page may run and fetch: what it holds, and nothing; its links lead somewhere."""

import base64
import hashlib
import re
from importlib.resources import files

import large_records
import records
from html_page import Page

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report import render_html
from calib.report.assets import LICENCES


def judged(run, **limits):
    return run.model_copy(update={"verdict": evaluate(run, LimitsSpec(**limits))})


def test_only_what_the_page_holds_may_run_and_nothing_may_be_fetched():
    page = Page(html := render_html(judged(records.run(), accuracy_drop_points_max=6)))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    directives = {name: set(rest) for name, *rest in map(str.split, policy.split(";"))}
    assert directives["default-src"] == {"'none'"}
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        pieces = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(p.encode()).digest()) for p in pieces]
        assert pieces
        assert directives[directive] == {f"'sha256-{digest.decode()}'" for digest in digests}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_every_link_leads_to_a_part_of_the_page():
    limits = {
        name: 1
        for name, field in LimitsSpec.model_fields.items()
        if name.endswith(("_max", "_min")) and field.default is None
    }
    limits["embedding_cosine_mean_min"] = limits["embedding_cosine_worst_min"] = 0.5
    for run in (records.run(), large_records.large_run(12, 12)):
        page = Page(render_html(judged(run, **limits)))
        ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
        assert len(links) > len(limits)
        assert {link for link in links if link[1:] not in ids} == set()


def test_the_libraries_are_those_that_npm_published():
    folder = files("calib.report.assets")
    sums = folder.joinpath("SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = dict(reversed(line.split("  ")) for line in sums if not line.startswith("#"))
    assert {"tabulator.min.js", "uplot.min.js", *LICENCES.values()} < set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
