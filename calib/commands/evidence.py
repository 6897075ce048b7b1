"""`calib keygen`, `attest`, `verify`, `waive`: evidence that others can check."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from calib.commands.options import print_line
from calib.config import load_limits
from calib.errors import ConfigError, StoreError
from calib.evidence.extra import evidence_module, public_keys, signed_waivers
from calib.rundir import load_result
from calib.store import sha256_from_file
from calib.terminal import output_console, print_verdict, say

COMMANDS = ("keygen", "attest", "verify", "waive")
BUNDLE = "run.intoto.jsonl"

Keys = Annotated[list[Path], typer.Option("--key", help="A public key that may sign.")]
Signers = Annotated[
    list[str], typer.Option("--key", help="A private key's file, or a signer's URI.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("keygen")(keygen)
    app.command("attest")(attest)
    app.command("verify")(verify)
    app.command("waive")(waive)


def keygen(key: Path) -> None:
    """Make a pair of ed25519 keys: KEY to sign with, KEY.pub to verify with."""
    keys = evidence_module("keys")
    public = keys.generate(key)
    say(f"Keep {key} secret; give {public} to whoever verifies.")


def attest(
    run: Path,
    key: Signers,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"RUN/{BUNDLE} if absent.")
    ] = None,
) -> None:
    """Sign what a run found: how it was made, what was judged, all figures."""
    keys, statements, bundle = (evidence_module(n) for n in ("keys", "statements", "bundle"))
    result = load_result(run)
    folder = run if run.is_dir() else run.parent
    try:
        found = statements.statements_of(result, folder, datetime.now(UTC))
    except (ValueError, OSError) as error:
        raise StoreError(str(run), f"cannot be attested: {error}") from error
    target = output or folder / BUNDLE
    bundle.write_bundle(found, [keys.open_signer(k) for k in key], target)
    say(str(target))


def verify(
    bundle: Path,
    key: Keys,
    artifact: Annotated[
        list[Path] | None, typer.Option(help="A file that it must be about; repeat for more.")
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many keys must have signed.")] = 1,
    age_days_max: Annotated[int | None, typer.Option(min=0, help="Oldest evidence taken.")] = None,
    limits: Annotated[
        Path | None, typer.Option(help="Stricter limits to judge the recorded facts by.")
    ] = None,
    waiver: Annotated[list[Path] | None, typer.Option(help="A signed waiver.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Check signatures, files, age and verdict. The exit code is the gate's; 2 if refused."""
    opened, checks = (evidence_module(n) for n in ("bundle", "verify"))
    public = public_keys(key, threshold)
    found = opened.read_bundle(bundle, public, threshold)
    given = [w for w, _ in signed_waivers(waiver or (), key, threshold)]
    checked = checks.check(
        found,
        artifact or (),
        None if age_days_max is None else timedelta(days=age_days_max),
        load_limits(limits) if limits is not None else None,
        given,
    )
    if as_json:
        content = {
            "verdict": checked.verdict.verdict.value,
            "runId": checked.result.run_id,
            "waived": list(checked.waived),
            "reason": checked.verdict.reason,
        }
        print_line(content)
    else:
        print_verdict(output_console(), checked.verdict)
    raise typer.Exit(checked.verdict.verdict.exit_code)


def waive(
    limit: str,
    key: Signers,
    model: Annotated[Path, typer.Option(help="The INT8 model that it is for.")],
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it holds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.")] = Path(
        "waiver.intoto.jsonl"
    ),
) -> None:
    """Sign that a model may ship although it breaks a limit, or cannot be told to keep it."""
    keys, bundle, waivers = (evidence_module(n) for n in ("keys", "bundle", "waivers"))
    if not model.is_file():
        raise ConfigError(f"--model {model}", "there is no such file")
    made = waivers.Waiver(
        limit=limit,
        model_sha256=sha256_from_file(model),
        owner=owner,
        reason=reason,
        expires=datetime.now(UTC) + timedelta(days=days),
    )
    signers = [keys.open_signer(k) for k in key]
    bundle.write_bundle([waivers.waiver_statement(made)], signers, output)
    say(str(output))
