"""The programs that emulation needs: QEMU for Arm, and gcc for Cortex-M with newlib."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from spquant_search.deploy.c_library import ARM_COMPILER
from spquant_search.deploy.emulator.targets import Target
from spquant_search.errors import UserError

QEMU, SIZE, ADDR2LINE = "qemu-system-arm", "arm-none-eabi-size", "arm-none-eabi-addr2line"
NEWLIB = "newlib"
PACKAGES = ("qemu-system-arm", "gcc-arm-none-eabi", "libnewlib-arm-none-eabi")  # of Debian and Ubuntu


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of the programs, and the versions of those on which figures depend."""

    qemu: str
    gcc: str
    size: str
    addr2line: str
    qemu_version: str
    gcc_version: str


def find_tools(target: Target) -> Tools:
    """Find what ``target`` needs.

    Raises:
        UserError: something is not installed, or QEMU is too old for the target's machine.
    """
    found = {name: shutil.which(name) for name in (QEMU, ARM_COMPILER, SIZE, ADDR2LINE)}
    missing = [name for name, path in found.items() if path is None]
    gcc = found[ARM_COMPILER]
    if gcc is not None and not Path(_said(gcc, "-print-file-name=libc.a").strip()).is_absolute():
        missing.append(NEWLIB)
    if missing:
        raise UserError(_missing_words(target, missing))
    qemu, gcc, size, addr2line = (str(path) for path in found.values())
    version = re.search(r"version (\S+)", _said(qemu, "--version"))
    machines = {line.split()[0] for line in _said(qemu, "-machine", "help").splitlines() if line.strip()}
    qemu_version = version[1] if version else "of an unknown version"
    if target.machine not in machines:
        raise UserError(
            f"--emulate {target.name}: {qemu} ({qemu_version}) has no machine {target.machine}; QEMU 7.2 has it"
        )
    return Tools(qemu, gcc, size, addr2line, qemu_version, _said(gcc, "-dumpfullversion").strip())


def _missing_words(target: Target, missing: list[str]) -> str:
    what = f"{', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed here"
    return (
        f"--emulate {target.name} needs {what}. On Debian and Ubuntu: apt-get install {' '.join(PACKAGES)}. Elsewhere: "
        "QEMU with qemu-system-arm, and the GNU toolchain arm-none-eabi with newlib"
    )


def _said(*command: str) -> str:
    """Return what a tool prints of itself.

    Raises:
        UserError: it does not work.
    """
    try:
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started: {error.strerror}") from None
    if answer.returncode:
        words = answer.stderr.strip() or f"exit code {answer.returncode}"
        raise UserError(f"{command[0]} does not work here: {words}")
    return answer.stdout
