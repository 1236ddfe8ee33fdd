"""Words for the advice of a part of the time (`target.Part`), which stands in each target's `parts.py`.

Each advice can be tried at once, with `tetrasim whatif RUN PATH=VALUE` or `--set PATH=VALUE`; the conformance
tests apply all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.hw_targets.common.target import Advice, ConfigT, Part


def part_names(parts: Sequence[Part[ConfigT]]) -> tuple[str, ...]:
    """Their names, in report order."""
    return tuple(part.name for part in parts)


def change(text: str, path: str, value: str | int | float | bool) -> tuple[Advice, ...]:
    """Advice to set one value."""
    return (Advice(text, ((path, value),)),)


def advice_text(advice: Sequence[Advice]) -> str:
    """One sentence with the settings to try; empty when there is no advice."""
    return "; or ".join(f"{a.text} ({' '.join(_setting(*s) for s in a.settings)})" for a in advice)


def _setting(path: str, value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return f"--set {path}={str(value).lower()}"
    return f"--set {path}={value:g}" if isinstance(value, float) else f"--set {path}={value}"
