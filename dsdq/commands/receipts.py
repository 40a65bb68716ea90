"""``dsdq receipts``: prove what a service may charge for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsdq.errors import ConfigError
from dsdq.receipts import Receipt, total_of
from dsdq.sealing import KEY_BYTES
from dsdq.settings import settings

DOUBTFUL = 1

receipts = typer.Typer(no_args_is_help=True, help="Receipts of sessions, as a client keeps them in DSDQ_RECEIPTS.")


@receipts.callback()
def _group() -> None:
    """Receipts of sessions, as a client keeps them in DSDQ_RECEIPTS."""


@receipts.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The file of receipts.")],
    key: Annotated[
        str | None,
        typer.Option(help="The service's public key; `dsdq keys receipts` prints it.", show_default="DSDQ_RECEIPT_KEY"),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Check every receipt: text and digest, sums and signature. Exit with 1 if one proves nothing.

    What they add up to is what `dsdq usage` may show for these sessions. Without a key a receipt that nobody signed is
    taken too.
    """
    public_key = settings().receipt_key if key is None else _key(key)
    good, bad = list[Receipt](), list[tuple[int, str]]()
    for number, line in enumerate(_lines(file), 1):
        try:
            receipt = Receipt.read(line)
            if tenant is not None and receipt.tenant != tenant:
                continue
            problems = receipt.problems(public_key)
        except ConfigError as error:
            problems = [str(error)]
        if problems:
            bad.append((number, "; ".join(problems)))
        else:
            good.append(receipt)
    _show(good, bad, as_json=as_json, signed=public_key is not None)
    if bad:
        raise typer.Exit(DOUBTFUL)


def _show(good: list[Receipt], bad: list[tuple[int, str]], *, as_json: bool, signed: bool) -> None:
    sums = total_of(good)
    if as_json:
        wrong = [{"line": number, "problems": problems} for number, problems in bad]
        typer.echo(json.dumps({"valid": len(good), "invalid": wrong, "total": sums, "signed": signed}, indent=2))
        return
    for number, problems in bad:
        typer.echo(f"line {number}: {problems}")
    table = Table(*sums, title=f"{len(good)} valid receipts" + ("" if signed else ", not held against a service's key"))
    table.add_row(*(f"{count:,}" for count in sums.values()))
    Console().print(table)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a file of receipts, got {file}: {error}") from None


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"--key: expected {KEY_BYTES} bytes in hexadecimal digits, got {text!r}")
    return key
