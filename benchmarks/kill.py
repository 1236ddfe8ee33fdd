"""Kills of live processes: `run`, `hls`, and a study's workers and driver. Nothing may be lost or doubled.

    python benchmarks/kill.py --kills 50
    python benchmarks/kill.py --kills 10 --only study --trials 100 --storage sqlite
    python benchmarks/kill.py --kills 10 --only study --storage postgresql://USER@HOST/DATABASE

A study runs with two workers while one of its processes is killed now and then; the driver is started again
when that was it. Before every kill the completed trials are noted; at the end all trials must be completed,
once each, and those noted must still be there with the same values. `run` and `hls` are stopped at random
moments by SIGKILL, SIGTERM or SIGINT: their output folder must be absent or complete, no temporary file may
stay after SIGTERM and SIGINT, and the same command must afterwards give the bytes of an undisturbed run.
A kill counts only when it hit a process that was alive. Exits with 1 when anything else happened.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny_onnx import mlp

if TYPE_CHECKING:
    from tetrasim.dse.study import Done

STUDY = """
name: kill-%(name)s
model: {preset: gpt2-small}
workload: {prompt: 32, generate: %(generate)d}
targets:
  cpu/xeon-6154:
    dram.bandwidth_bytes_per_s: {low: 5.0e10, high: 4.0e11}
    core.clock_hz: {low: 1000000000, high: 4000000000}
objectives: [token_us, energy_mj]
search: {sampler: random, trials: %(trials)d, seed: 7}
"""


def children(parent: int) -> list[int]:
    """Direct children of a process, from /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def completed(folder: Path, url: str) -> dict[int, tuple[float, ...]]:
    """Completed trials as recorded now: number -> objective values."""
    from optuna.trial import TrialState

    from tetrasim.dse.folder import SPEC
    from tetrasim.dse.spec_file import make_spec
    from tetrasim.dse.storage import open_study, storage_of

    file = folder / SPEC
    if not file.is_file():
        return {}
    spec = make_spec(json.loads(file.read_text())["spec"])
    trials = open_study(spec, storage_of(folder, url)).get_trials(deepcopy=False)
    return {t.number: tuple(t.values) for t in trials if t.state == TrialState.COMPLETE}


def unfinished(folder: Path, url: str) -> list[Done]:
    """Recorded trials without metrics."""
    from tetrasim.dse.folder import load

    return [t for t in load(folder, url).trials if not t.metrics]


def fresh_cache(place: Path) -> Path:
    """A cache without evaluations, so that every run simulates; exported graphs are the user's own."""
    from tetrasim.files.cache import cache_root

    exports = cache_root() / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    cache = place / "cache"
    cache.mkdir()
    (cache / "exports").symlink_to(exports.resolve(), target_is_directory=True)
    return cache


class Study:
    """The driver process, restarted when it dies."""

    def __init__(self, spec: Path, folder: Path, cache: Path, url: str) -> None:
        self.cache = cache
        self.command = [sys.executable, "-m", "tetrasim", "dse", "run", str(spec), "-o", str(folder)]
        self.command += ["--workers", "2", "--quiet", "--json", *(("--storage", url) if url else ())]
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        environment = {**os.environ, "TETRASIM_CACHE": str(self.cache)}
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, env=environment)

    def kill_one(self, rng: random.Random) -> str:
        """SIGKILL the driver or one of its workers; returns which."""
        workers = children(self.process.pid)
        victim = rng.choice([self.process.pid, *workers])
        os.kill(victim, signal.SIGKILL)
        if victim != self.process.pid:
            return "worker"
        self.process.wait()
        self.start()
        return "driver"


RUN = ("run", "m.onnx", "--on", "gpu/t4", "cpu/xeon-6154", "-o", "out", "-q")
HLS = ("hls", "m.onnx", "-o", "out", "--no-check", "--samples", "10", "-q")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Counts:
    """What was hit, and what was wrong afterwards."""

    def __init__(self) -> None:
        self.hit: dict[str, int] = {}
        self.wrong: list[str] = []

    def kill(self, what: str) -> None:
        self.hit[what] = self.hit.get(what, 0) + 1


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def kill_commands(
    name: str, arguments: tuple[str, ...], kills: int, rng: random.Random, counts: Counts
) -> None:
    """Stop a command at random moments of its life; see the module text for what must hold."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = {**os.environ, "TETRASIM_CACHE": str(folder / "cache")}
        onnx.save(mlp(rows=4), folder / "m.onnx")
        command = [sys.executable, "-m", "tetrasim", *arguments]
        began = time.monotonic()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        whole, good = time.monotonic() - began, bytes_of(folder / "out")
        hit = 0
        while hit < kills:
            shutil.rmtree(folder / "out", ignore_errors=True)
            shutil.rmtree(folder / "cache", ignore_errors=True)
            number = rng.choice(SIGNALS)
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(rng.uniform(0.3, 1.0) * whole)
            if process.poll() is not None:  # it had ended: no kill
                continue
            process.send_signal(number)
            process.wait()
            hit += 1
            counts.kill(f"{name} {number.name}")
            if (folder / "out").exists() and bytes_of(folder / "out") != good:
                counts.wrong.append(f"{name} {number.name}: a partial output")
            left = [p.name for p in folder.rglob(".tetrasim-*")]
            if left and number != signal.SIGKILL:
                counts.wrong.append(f"{name} {number.name}: left {left}")
        shutil.rmtree(folder / "out", ignore_errors=True)
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        if bytes_of(folder / "out") != good:
            counts.wrong.append(f"{name}: after the kills the output differs")
        if left := [p.name for p in folder.glob(".tetrasim-*")]:
            counts.wrong.append(f"{name}: the next run left {left}")


def kill_study(options: argparse.Namespace, kills: int, rng: random.Random, counts: Counts) -> str:
    """Kill a study's processes; a line of what was recorded."""
    with tempfile.TemporaryDirectory() as place:
        spec, folder = Path(place) / "study.yaml", Path(place) / "study"
        known = {"journal": "", "sqlite": f"sqlite:///{place}/study.db"}
        url = known.get(options.storage, options.storage)
        name = Path(place).name.replace("_", "x")  # a database outlives this run, so no two may share a name
        spec.write_text(STUDY % {"name": name, "trials": options.trials, "generate": options.generate})
        study, noted, killed = Study(spec, folder, fresh_cache(Path(place)), url), {}, 0
        while killed < kills and study.process.poll() is None:
            # Wait until the study has moved since the last kill, so that every kill interrupts work.
            before = len(noted)
            deadline = time.monotonic() + 60
            wanted = before + rng.randint(0, max(1, options.trials // (kills + 1)))
            while time.monotonic() < deadline and study.process.poll() is None:
                noted |= completed(folder, url)
                if len(noted) >= wanted:
                    break
                time.sleep(0.1)
            time.sleep(rng.uniform(0.0, 0.5))
            noted |= completed(folder, url)
            if study.process.poll() is None and len(noted) < options.trials:
                counts.kill(study.kill_one(rng))
                killed += 1
        code = study.process.wait()
        final = completed(folder, url)
        other = {t.number: (t.note or "running") for t in unfinished(folder, url)}
        lost = [n for n, values in noted.items() if final.get(n) != values]
        doubled = len(final) - len(set(final.values()))
        if code or other or lost or doubled or sorted(final) != list(range(options.trials)):
            counts.wrong.append(f"study: code {code}, lost {lost}, doubled {doubled}, not completed {other}")
        if killed < kills:
            counts.wrong.append(f"study: only {killed} of {kills} kills before it ended; give more --trials")
    return f"trials={len(final)} lost={len(lost)} doubled={doubled} driver_starts={study.starts}"


def main() -> None:
    """Run, kill, check; the last line holds the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", choices=("run", "hls", "study"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--generate", type=int, default=500, help="tokens per trial: how long one takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="journal", help="journal, sqlite or a database URL")
    options = parser.parse_args()
    rng, counts, started = random.Random(options.seed), Counts(), time.monotonic()
    shares = {"run": 0.3, "hls": 0.2, "study": 0.5}
    wanted = {k: round(options.kills * s) for k, s in shares.items()} if not options.only else {}
    wanted = wanted or {options.only: options.kills}
    said = ""
    for name, arguments in (("run", RUN), ("hls", HLS)):
        if name in wanted:
            kill_commands(name, arguments, wanted[name], rng, counts)
    if "study" in wanted:
        said = kill_study(options, wanted["study"], rng, counts)
    for problem in counts.wrong:
        print(problem)
    verdict = "ok" if not counts.wrong else "FAILED"
    hits = " ".join(f"{what.replace(' ', '_')}={n}" for what, n in sorted(counts.hit.items()))
    total = sum(counts.hit.values())
    print(f"RESULT kill {verdict} kills={total} {hits} {said} seconds={time.monotonic() - started:.0f}")
    raise SystemExit(1 if counts.wrong else 0)


if __name__ == "__main__":
    main()
