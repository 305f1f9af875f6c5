"""Print what a trainer asks of a GPU, measured without one.

    PYTHONPATH=.:tests python -m fake_gpu SPACE [SPACE ...] [--device cuda:1] [--scenario NAME] [--waits] [--json]

SPACE is the name of a file of spaces/, or own, forms or stills.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from fake_gpu.figures import table
from fake_gpu.loading import build
from fake_gpu.measuring import Run, measured, why_not


def main() -> None:
    parser = argparse.ArgumentParser(prog="fake_gpu", description=__doc__)
    parser.add_argument("spaces", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--waits", action="store_true", help="print the place of every wait")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (reason := why_not()) is not None:
        raise SystemExit(reason)
    runs = [Run(space=space, device=given.device, scenarios=tuple(given.scenario)) for space in given.spaces]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fake_cuda.so"
        build(library)
        found = dict(zip(given.spaces, measured(runs, library), strict=True))
    print(json.dumps(found, indent=2) if given.json else table(found, waits=given.waits))


if __name__ == "__main__":
    main()
