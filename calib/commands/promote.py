"""`calib promote`: a candidate that passed, to where models are served from."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from calib.commands.options import print_line
from calib.promotion.package import Package
from calib.promotion.passwords import without_passwords
from calib.promotion.promotable import Request, promotable
from calib.promotion.target import Target, TargetOptions
from calib.promotion.targets import open_target
from calib.results import RunVerdict, Verdict
from calib.terminal import complain, output_console, print_verdict, say

COMMANDS = ("promote",)

_FORMS = (
    "directory:PATH, tar:FILE.tar, triton:REPOSITORY, mlflow:URI or kubernetes:PATH; repeat for "
    "more."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("promote")(promote)


def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's directory.")],
    to: Annotated[list[str], typer.Option("--to", metavar="PLACE", help=_FORMS)],
    name: Annotated[
        str | None, typer.Option(help="Of the model there; the experiment's if absent.")
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Another than the run chose, if it passed.")
    ] = None,
    waiver: Annotated[list[Path] | None, typer.Option(help="A signed waiver.")] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key: the bundle, and waivers, must be signed by it."),
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many keys must have signed.")] = 1,
    bundle: Annotated[
        Path | None, typer.Option(help="The run's statements; RUN/run.intoto.jsonl if absent.")
    ] = None,
    age_days_max: Annotated[int | None, typer.Option(min=0, help="Oldest evidence taken.")] = None,
    alias: Annotated[str, typer.Option(help="MLflow: the version's name.")] = "champion",
    version: Annotated[
        int | None, typer.Option(min=1, help="Triton: the version; the next one if absent.")
    ] = None,
    warmup: Annotated[
        bool, typer.Option(help="Triton: warm up with the batch of samples that the run kept.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Put a candidate that passed, or whose open limits are waived, where models are served from.

    Every place is asked first: if one cannot take it, nothing is done anywhere. Once more changes
    nothing. Exit code: 0 done; the gate's 1, 3 or 4 if it did not pass; 2 if anything is wrong.
    """
    options = TargetOptions(alias=alias, version=version, warmup=warmup)
    targets = {text: open_target(text, options) for text in to}
    found = promotable(
        Request(
            run=run,
            name=name,
            candidate=candidate,
            waivers=tuple(waiver or ()),
            keys=tuple(key or ()),
            threshold=threshold,
            bundle=bundle,
            age_max=None if age_days_max is None else timedelta(days=age_days_max),
        )
    )
    if isinstance(found, RunVerdict):
        _refuse(found, as_json=as_json)
    else:
        _promote(found, targets, dry_run=dry_run, as_json=as_json)


def _refuse(verdict: RunVerdict, *, as_json: bool) -> None:
    if as_json:
        print_line(_head(verdict) | {"promoted": False, "targets": []})
    else:
        print_verdict(output_console(), verdict)
        complain(f"Nothing was promoted. {_what_to_do(verdict)}")
    raise typer.Exit(verdict.verdict.exit_code)


def _what_to_do(verdict: RunVerdict) -> str:
    judged = next((c for c in verdict.candidates if c.candidate == verdict.chosen), None)
    undone = [r.rule for r in judged.rules if r.verdict is not Verdict.PASS] if judged else []
    if not undone:
        return "Say in the config, under limits, what must hold, and run again."
    return (
        "Run again with what keeps the limits, or have each that is not kept waived "
        f"({', '.join(undone)}): calib waive LIMIT --model MODEL --key KEY …, then promote with "
        "--waiver FILE and --key PUBLIC."
    )


def _promote(package: Package, targets: dict[str, Target], *, dry_run: bool, as_json: bool) -> None:
    """Plan everywhere, then do it, place by place; what is done is said at once."""
    targets = {without_passwords(text): target for text, target in targets.items()}
    plans = {text: target.plan(package) for text, target in targets.items()}
    done: dict[str, tuple[str, ...]] = {}
    for text, target in targets.items():
        done[text] = plans[text] if dry_run else target.promote(package)
        if not as_json:
            _say_done(text, done[text], dry_run=dry_run)
    if as_json:
        print_line(
            _head(package.verdict)
            | {
                "name": package.name,
                "model_sha256": package.model.sha256,
                "waived": package.waived,
                "promoted": not dry_run,
                "targets": [{"to": text, "changes": lines} for text, lines in done.items()],
            }
        )


def _say_done(text: str, lines: tuple[str, ...], *, dry_run: bool) -> None:
    where = f"dry run: {text}" if dry_run else text
    for line in lines:
        say(f"{where}: {line}")
    if not lines:
        say(f"{where}: all of it is there already, nothing to change")


def _head(verdict: RunVerdict) -> dict[str, Any]:
    return {"verdict": verdict.verdict, "candidate": verdict.chosen, "reason": verdict.reason}
