"""Passwords in words of the command line, which are kept and shown without them."""

from __future__ import annotations

import re
import sys


def without_password(argument: str) -> str:
    """Hide a password in an argument of the command line, so that it may be kept."""
    argument = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", argument)
    return re.sub(r"(password=)[^&\s]*", r"\1***", argument)


def command_line() -> str:
    """Return the command line that this process was started by, as a run keeps it."""
    return " ".join(["spquant-search", *map(without_password, sys.argv[1:])])
