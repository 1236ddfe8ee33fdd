"""Record or compare the golden runs: every number of a report, every program, every file of an HLS project.

    python tests/golden/record.py             compare all, print what differs, exit 1 if anything does
    python tests/golden/record.py NAME …      compare these
    python tests/golden/record.py --write …   record them again; the commit names the fault that it mends

A golden is a text file of a few key numbers, which make a difference readable, and of digests, which make
sure that nothing else moved. Numbers count to nine significant digits: the last ones depend on the machine.
What changes with every commit or release is left out: versions, hashes of code and model, the command line.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the builders of small ONNX files

from golden.combinations import COMBINATIONS, Combination, model_path

import tetrasim
from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.passes.precision import with_precision

RUNS = Path(__file__).parent / "runs"
LEFT_OUT = ("provenance", "command", "schema_version", "export_checks")
_STAMP = re.compile(r"((?:LIB_STAMP=|Stamp: ))[0-9a-f]{8}|(?<=OutputDir: )[^\n]+")  # a path of this machine
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")


def golden_of(wanted: Combination, folder: Path) -> str:
    """The text of one golden, computed now; `folder` is for files on the way."""
    model = model_path(wanted.model, folder)
    lines = _hls(wanted, model, folder) if not wanted.on else _run(wanted, model)
    return "\n".join([*lines, ""])


def _run(wanted: Combination, model: str) -> list[str]:
    done = tetrasim.simulate(
        model,
        on=wanted.on,
        prompt=wanted.prompt,
        generate=wanted.generate,
        batch=wanted.batch,
        settings=dict(wanted.settings),
        numerics=False,
        use_cache=wanted.slow,  # a small result is always computed anew
    )
    report = json.loads(done.to_json())
    (result,) = report["results"]
    lines = [f"{wanted.model} on {wanted.on} {dict(wanted.settings)}", ""]
    lines += [f"{path} = {text}" for path, text in _totals(result)]
    trees = {k: v for k, v in result.items() if k not in LEFT_OUT and isinstance(v, (dict, list))}
    lines += ["", *(f"report.{key} {_digest(value)}" for key, value in trees.items())]
    return lines + [f"program {name} {_digest(text)}" for name, text in _programs(wanted, model)]


def _totals(result: dict[str, object]) -> Iterator[tuple[str, str]]:
    """The metrics and what describes the result in a word: what a reader of a difference looks at first."""
    for key, value in result.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, dict) and "value" in value:
            yield key, f"{_short(value['value'])} {value.get('unit', '')}"
        elif isinstance(value, (str, int, float)) and len(str(value)) < 80:
            yield key, _short(value)
        elif key == "phases" and isinstance(value, list):
            for phase in value:
                name = f"phases.{phase['name']}"
                yield from ((f"{name}.{path}", text) for path, text in _totals(phase) if path != "name")


def _short(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _digest(value: object) -> str:
    """Of a JSON tree or a text, with nine significant digits of every number that is not whole."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(_NUMBER.sub(lambda m: f"{float(m[0]):.9g}", text).encode()).hexdigest()[:16]


def _programs(wanted: Combination, model: str) -> Iterator[tuple[str, str]]:
    """The lowered program of every phase, as text; the step at its first context."""
    target, preset = find_preset(wanted.on)
    config = with_overrides(preset.config, wanted.settings)
    loaded = tetrasim.load(model, prompt=wanted.prompt, generate=wanted.generate, batch=wanted.batch)
    for phase in loaded.phases:
        graph = with_precision(phase.family.base, target.precision(config))
        yield phase.name, target.lower(graph, config).to_text()


def _hls(wanted: Combination, model: str, folder: Path) -> list[str]:
    project = folder / "project"
    options = HlsOptions(**wanted.hls)  # type: ignore[arg-type]
    report = tetrasim.generate_hls(model, project, options=options, check=False)
    found = report.estimate
    lines = [f"{wanted.model} as an HLS project {dict(wanted.hls)}", "", f"layers = {report.layers}"]
    if found is not None:
        lines += [f"latency_cycles = {found.latency_cycles}", f"interval_cycles = {found.interval_cycles}"]
    lines.append("")
    for file in sorted(f for f in project.rglob("*") if f.is_file()):
        # hls4ml stamps each project with a random number; report and estimate name its folder
        text = file.read_bytes().decode(errors="replace").replace(str(project), "PROJECT")
        text = _STAMP.sub(r"\1", text)
        lines.append(f"{file.relative_to(project).as_posix()} {_digest(text)}")
    return lines


def difference(name: str, folder: Path) -> list[str]:
    """The lines of a golden that are not what is computed now."""
    file = RUNS / f"{name}.txt"
    before = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    now = golden_of(COMBINATIONS[name], folder).splitlines()
    return [f"-{line}" for line in before if line not in now] + [
        f"+{line}" for line in now if line not in before
    ]


def main(arguments: Sequence[str]) -> int:
    write = "--write" in arguments
    names = [name for name in arguments if name != "--write"] or list(COMBINATIONS)
    changed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            if write:
                text = golden_of(COMBINATIONS[name], Path(scratch))
                (RUNS / f"{name}.txt").write_text(text, encoding="utf-8")
                found = []
            else:
                found = difference(name, Path(scratch))
        changed += bool(found)
        state = "differs" if found else "written" if write else "same"
        sys.stdout.write("\n".join([f"{name}: {state}", *found, ""]))
        sys.stdout.flush()
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
