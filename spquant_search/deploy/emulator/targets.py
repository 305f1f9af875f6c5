"""The processors that can be emulated: which machine of QEMU, which flags of gcc, which memory, which timer."""

from __future__ import annotations

from dataclasses import dataclass

from spquant_search.errors import UserError, nearest

KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A piece of an emulated machine's memory."""

    origin: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timer:
    """A timer of an emulated machine, and the instructions between two of its ticks at one nanosecond each.

    ``kind`` is a kind of ``timer.h``.
    """

    kind: str
    address: int
    instructions_per_tick: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a name after ``--emulate`` stands for."""

    name: str
    words: str  # what runs the program, in a sentence
    machine: str  # QEMU's name of it
    flags: tuple[str, ...]  # of arm-none-eabi-gcc
    flash: Memory
    ram: Memory
    timer: Timer
    remark: str = ""  # what else whoever reads its figures must know


_MPS2_FLASH, _MPS2_RAM = Memory(origin=0, bytes=4 * MIB), Memory(origin=0x20000000, bytes=4 * MIB)
_MPS2_TIMER = Timer(kind="TIMER_CMSDK", address=0x40000000, instructions_per_tick=40)  # 25 MHz

_ALL = (
    Target(
        name="cortex-m0+",
        words="an emulated Cortex-M4 with code for a Cortex-M0+",
        remark="QEMU has no machine with a Cortex-M0+; a Cortex-M4 runs the same code, instruction by instruction",
        machine="mps2-an386",
        flags=("-mcpu=cortex-m0plus", "-mthumb"),
        flash=_MPS2_FLASH,
        ram=_MPS2_RAM,
        timer=_MPS2_TIMER,
    ),
    Target(
        name="cortex-m4",
        words="an emulated Cortex-M4",
        machine="mps2-an386",
        flags=("-mcpu=cortex-m4", "-mthumb"),
        flash=_MPS2_FLASH,
        ram=_MPS2_RAM,
        timer=_MPS2_TIMER,
    ),
    Target(
        name="cortex-m7",
        words="an emulated Cortex-M7",
        machine="mps2-an500",
        flags=("-mcpu=cortex-m7", "-mthumb"),
        flash=_MPS2_FLASH,
        ram=_MPS2_RAM,
        timer=_MPS2_TIMER,
    ),
    Target(
        name="cortex-m33",
        words="an emulated Cortex-M33",
        machine="mps2-an505",
        flags=("-mcpu=cortex-m33", "-mthumb"),
        flash=Memory(origin=0x10000000, bytes=4 * MIB),  # the secure addresses, where it starts
        ram=Memory(origin=0x38000000, bytes=4 * MIB),
        timer=Timer(kind="TIMER_CMSDK", address=0x50000000, instructions_per_tick=50),  # 20 MHz
    ),
    Target(
        name="cortex-m55",
        words="an emulated Cortex-M55",
        machine="mps3-an547",
        flags=("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),  # without it gcc leaves the vector unit alone
        flash=Memory(origin=0, bytes=512 * KIB),
        ram=Memory(origin=0x01000000, bytes=2 * MIB),
        timer=Timer(kind="TIMER_SSE", address=0x58100000, instructions_per_tick=31.25),  # 32 MHz
    ),
    Target(
        name="stm32f405",
        words="an emulated STM32F405 (Cortex-M4)",
        remark="of the 192 KiB of RAM of an STM32F405, the 128 KiB count that lie in one piece",
        machine="netduinoplus2",
        flags=("-mcpu=cortex-m4", "-mthumb"),
        flash=Memory(origin=0x08000000, bytes=1 * MIB),
        ram=Memory(origin=0x20000000, bytes=128 * KIB),  # QEMU 7.2 has 192 KiB there, later ones what the chip has
        timer=Timer(kind="TIMER_STM32", address=0x40000000, instructions_per_tick=16),
    ),
)
TARGETS = {target.name: target for target in _ALL}


def target_of(name: str) -> Target:
    """Return the target of a name.

    Raises:
        UserError: there is none.
    """
    if (found := TARGETS.get(name.lower())) is not None:
        return found
    near = nearest(name.lower(), TARGETS)
    meant = f"did you mean {near}? " if near else ""
    raise UserError(f"--emulate {name}: is no target; {meant}There are: {', '.join(TARGETS)}")
