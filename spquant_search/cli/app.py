"""The program ``spquant-search``: its commands, its errors as messages and exit codes.

Nothing heavy is imported before a command needs it: ``--help`` takes a tenth of a second, torch takes two.
"""

from __future__ import annotations

import sys

import typer

from spquant_search.cli.deployment import pick, verify
from spquant_search.cli.describe import cost, data, spaces
from spquant_search.cli.exit_codes import EXIT_INTERRUPTED, EXIT_USER
from spquant_search.cli.runs import dashboard, finalize, front, report, sensitivity
from spquant_search.cli.search import search
from spquant_search.cli.usage import explain
from spquant_search.errors import UserError

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(invoke_without_command=True)(search)
for command in (spaces, cost, sensitivity, data, front, finalize, pick, verify, report, dashboard):
    app.command()(command)


# What the parser raises for words that it does not understand; typer itself exports one kind of it alone.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        code = _run()
    except UserError as error:
        print(f"error: {_printable(str(error))}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code)


def _printable(text: str) -> str:
    """Write signs that steer a terminal, or that it cannot show, by their numbers: names of files may hold any."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def _run() -> int:
    try:
        code = app(prog_name="spquant-search", standalone_mode=False)
    except _UsageError as error:
        raise explain(error, sys.argv[1:], typer.main.get_command(app)) from None
    return code if isinstance(code, int) else 0
