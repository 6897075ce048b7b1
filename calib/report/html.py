"""The report: one self-contained page, the verdict first."""

from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from calib.gate.waiving import Waived
from calib.report.assets import LICENCES, SCRIPTS, STYLES, asset, policy
from calib.report.grid import Table, script_json
from calib.report.headline import headline
from calib.report.junit import render_junit
from calib.report.page import Page, Section, page_from_result
from calib.report.plain import environment
from calib.report.sections import SECTIONS
from calib.report.speed import write_speed_csv, write_throughput_csv
from calib.report.summary import render_summary, verdict_file
from calib.report.tables import write_layers_csv, write_ran_csv, write_thresholds_csv
from calib.results import RunResult
from calib.store import write_atomically


def write_report(result: RunResult, directory: Path) -> None:
    """Write result.json, report.html, verdict.json, summary.md, junit.xml and the CSV files."""
    write_atomically(directory / "result.json", result.model_dump_json(indent=1))
    write_atomically(directory / "report.html", render_html(result))
    write_atomically(directory / "verdict.json", verdict_file(result).model_dump_json(indent=1))
    write_atomically(directory / "summary.md", render_summary(result))
    write_atomically(directory / "junit.xml", render_junit(result))
    write_layers_csv(result, directory / "layers.csv")
    write_ran_csv(result, directory / "ran.csv")
    write_thresholds_csv(result, directory / "thresholds.csv")
    write_speed_csv(result, directory / "speed.csv")
    write_throughput_csv(result, directory / "throughput.csv")


def render_html(result: RunResult, waived: Waived | None = None) -> str:
    """The page as text. Whatever the run carries (texts, names, labels) is escaped.

    Args:
        result: of the run; its verdict is shown as it is.
        waived: what waivers make of that verdict, to be shown beside it.
    """
    page = page_from_result(result, waived)
    templates = environment()
    sections, styles = [], [asset(name) for name in STYLES]
    data: dict[str, Any] = {}
    for section in SECTIONS:
        if section.present(page):
            context = section.context(page)
            data |= context.get("data", {})
            styles += [t.labels_css for t in _tables(context)]
            sections.append((section, _rendered(templates, section, page, context)))
    scripts = [asset(name) for name in SCRIPTS]
    style = "\n".join(styles)
    return templates.get_template("report.html").render(
        result=result,
        shown=page.shown,
        sections=sections,
        head=headline(page),
        data=Markup(script_json(data)),  # noqa: S704 - no tag can be in it
        style=Markup(style),  # noqa: S704 - our own
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own
        policy=policy(scripts, [style]),
        licences={name: asset(file) for name, file in LICENCES.items()},
    )


def _rendered(templates: Environment, section: Section, page: Page, context: Any) -> Markup:
    template = templates.get_template(f"sections/{section.id}.html")
    text = template.render(result=page.result, shown=page.shown, section=section, **context)
    return Markup(text)  # noqa: S704 - rendered with its values escaped


def _tables(value: object) -> list[Table]:
    """Every table among a section's variables, however deep."""
    if isinstance(value, Table):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tables(v)] if isinstance(value, list | tuple) else []
