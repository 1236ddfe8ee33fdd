"""How long the main command takes in a new process: first ever, with cached exports, with cached results.

    python benchmarks/startup.py [--model gpt2-small] [--repeat 3]

Each run starts a fresh interpreter with its own empty cache folder (TETRASIM_CACHE) and an empty cache of
compiled kernels (NUMBA_CACHE_DIR); "cached results" is the same command again, "cached exports" the same
command with another number of tokens, so that every simulation is done afresh. Times are wall time; the best
of `--repeat` for all but the first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = ("pim/pim-gpt", "gpu/t4", "cpu/xeon-6154", "fpga/u280")
MUST_S = {"--help": 0.3, "first run": 60.0, "cached exports": 10.0, "cached results": 2.0}


def timed(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Seconds of one process; its failure ends the benchmark with its output."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gpt2-small")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    tetrasim = [sys.executable, "-m", "tetrasim"]
    script = shutil.which(
        "tetrasim", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if script:
        tetrasim = [script]

    def command(tokens: int) -> list[str]:
        run = [*tetrasim, "run", args.model, "--on", *TARGETS, "--prompt", "32"]
        return [*run, "--generate", str(tokens), "--quiet"]

    with tempfile.TemporaryDirectory(prefix="tetrasim-startup-") as name:
        folder = Path(name)
        environment = {
            **os.environ,
            "TETRASIM_CACHE": str(folder / "cache"),
            "NUMBA_CACHE_DIR": str(folder / "numba"),
            "TETRASIM_CONFIG": str(folder / "config"),
        }
        found = {"--help": min(timed([*tetrasim, "--help"], environment, folder) for _ in range(args.repeat))}
        found["first run"] = timed(command(128), environment, folder)
        found["cached exports"] = min(
            timed(command(129 + i), environment, folder) for i in range(args.repeat)
        )
        found["cached results"] = min(timed(command(128), environment, folder) for _ in range(args.repeat))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{args.model} on {' '.join(TARGETS)}, prompt 32, generate 128; {os.cpu_count()} cores{load}\n")
    for what, seconds in found.items():
        verdict = "" if seconds <= MUST_S[what] else "   over"
        print(f"{what:15s} {seconds:7.2f} s   must {MUST_S[what]:5.1f} s{verdict}")


if __name__ == "__main__":
    main()
