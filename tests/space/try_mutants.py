"""Read mutated space files as `cost` and the start of a search do, in a process of little memory, and count faults."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from space.mutations import mutants

from spquant_search.costs.memory import cost_report
from spquant_search.driver.known_costs import known_costs
from spquant_search.errors import SpaceError, UserError
from spquant_search.space.reading import frozen_space, parse_space, read_space
from spquant_search.training import prepare

MOST_SECONDS, MOST_BYTES = 2.0, 500 * 10**6
LONGEST_MESSAGE = 20_000  # characters


def read_all(path: Path) -> str:
    """Read one file to the end: a space, or what its user is told."""
    try:
        file = read_space(path)
        prepared = prepare.bind_network(file, source=str(path))
    except UserError as error:
        return refused(error, path)
    for config in (prepared.space.baseline(), *prepared.space.references):
        assert cost_report(prepared.shapes, config).memory_bytes >= 0
    known_costs(prepared.space, prepared.shapes)
    assert parse_space(frozen_space(file), source="frozen") == file, "the frozen space is another"
    return "space"


def refused(error: UserError, path: Path) -> str:
    message = str(error)
    assert message.startswith(f"{path}: "), message
    assert len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters"
    assert all(sign.isprintable() or sign == "\n" for sign in message), ascii(message)
    if isinstance(error, SpaceError):
        for problem in error.problems:
            whole = problem.sentence.startswith(("line ", "must hold a mapping", "is no space file"))
            assert problem.key or whole, problem
    return "refused"


def remember_networks() -> None:
    """Let equal networks be looked at once: most mutations change something else."""
    plain = prepare.inspect_network
    known: dict[str, object] = {}

    def remembered(*values: object, **options: object) -> object:
        key = repr((values, options))
        if key not in known:
            known[key] = plain(*values, **options)
        return known[key]

    prepare.inspect_network = remembered


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(seed: int, count: int) -> None:
    remember_networks()
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    slowest = most_memory = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_bytes(next(mutants(seed, 1)))
        limit_memory()
        for number, content in enumerate(mutants(seed, count)):
            path.write_bytes(content)
            before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            try:
                outcomes[read_all(path)] += 1
            except BaseException:  # whatever escapes is the fault that is looked for
                faults.append(f"{number}: {traceback.format_exc()[-1500:]}\n{content[:1500]!r}")
            seconds = time.process_time() - started
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            slowest, most_memory = max(slowest, seconds), max(most_memory, grown)
            if seconds > MOST_SECONDS or grown > MOST_BYTES:
                faults.append(f"{number}: {seconds:.1f} s, {grown / 1e6:.0f} MB\n{content[:1500]!r}")
    print(json.dumps({"outcomes": outcomes, "faults": faults, "slowest": slowest, "memory": most_memory}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
