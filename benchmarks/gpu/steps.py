"""One training step on the device, as ``benchmarks/train_step.py`` measures it: ours, the floor, SpikingJelly."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "train_step.py"
# Each is a process that compiles; in the order in which they tell most.
VARIANTS = ("ours, 4 bit / 3 levels", "floor", "ours, 4 bit / 3 levels, sparse", "ours, float")
PEERS = ("SpikingJelly multi-step, bf16", "SpikingJelly multi-step, Triton")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    found: dict[str, Any] = {"variants": {}, "left_out": {}}
    for name in (*VARIANTS, *PEERS):
        command = [sys.executable, str(SCRIPT), "--variant", name, "--pool", "after", "--device", device]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found["left_out"][name] = (done.stderr.strip().splitlines() or ["?"])[-1]
        else:
            found["variants"][name] = json.loads(done.stdout.splitlines()[-1])
        # A peer may not be installed; what is ours must run.
        found["checks"] = {"ours_ran": not set(VARIANTS) & set(found["left_out"])}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
