"""Part numbers: which ones exist, and what somebody meant who wrote another.

The families with their devices, packages and grades are data (`parts.yaml`). A device that is not in it is
given as a preset of one's own (`--part fpga/path/to/mine.yaml`), which also holds the fabric that the design
must fit.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.registry import find_preset, preset_names

OWN = "a part of your own: --part fpga/path/to/mine.yaml, a preset with its `part` and `fabric`"


@dataclass(frozen=True, slots=True)
class PartFamily:
    """Names are in lower case; `package` and `grade` are regular expressions."""

    name: str
    joined: str  # what stands between device and package
    devices: tuple[str, ...]
    device_suffix: str
    packages: tuple[str, ...]
    package: str
    grade: str
    usual_grade: str

    def device_of(self, part: str) -> str:
        """The device with which the part number begins, empty when it is none of ours."""
        for device in sorted(self.devices, key=len, reverse=True):
            if re.match(f"{device}{self.device_suffix}(?:{self.joined}{self.package}-|-|$)", part):
                return device
        return ""

    def holds(self, part: str) -> bool:
        """Whether `part` is written as the family writes its parts, with no slip in the package."""
        device = self.device_of(part)
        found = re.fullmatch(
            f"{device}{self.device_suffix}{self.joined}(?P<package>{self.package})-(?:{self.grade})", part
        )
        return bool(device) and found is not None and not self._is_slip(found["package"])

    def _is_slip(self, package: str) -> bool:
        close = difflib.get_close_matches(package, self.packages, n=1, cutoff=0.8)
        return package not in self.packages and bool(close)

    def nearest(self, part: str) -> str:
        """The part of this family that is written most like `part`."""
        device = self.device_of(part) or _closest(re.split("[-_ ]", part)[0], self.devices)
        known = known_parts().get(device, "")
        rest = part.removeprefix(device).strip("-").split("-", 1)
        packages = known.lower().removeprefix(device).strip("-").split("-")[:1] if known else []
        package = _closest(rest[0], self.packages) or (packages or self.packages)[0]
        grade = rest[1] if len(rest) > 1 and re.fullmatch(self.grade, rest[1]) else ""
        if not grade:
            same = known.lower().startswith(device + self.joined.strip("?") + package)
            grade = known.split("-", 2)[-1] if same and self.joined == "-" else self.usual_grade
        return f"{device}{'' if self.joined == '-?' else '-'}{package}-{grade}"


def _closest(name: str, choices: tuple[str, ...], least: float = 0.6) -> str:
    """The most similar of `choices`, those with a preset before others; empty when none is like `name`."""

    def likeness(choice: str) -> float:
        return difflib.SequenceMatcher(None, name, choice).ratio()

    found = [c for c in choices if likeness(c) >= least]
    return max(found, key=lambda c: likeness(c) + 0.1 * (c in known_parts()), default="")


@cache
def families() -> tuple[PartFamily, ...]:
    """Every family of `parts.yaml`."""
    tree = yaml.safe_load((Path(__file__).parent / "parts.yaml").read_text())
    made = []
    for name, entry in tree.items():
        devices, packages = (tuple(entry[key].split()) for key in ("devices", "packages"))
        suffix = entry.get("device_suffix", "")
        shape = (packages, entry["package"], entry["grade"], entry["usual_grade"])
        made.append(PartFamily(name, entry["joined"], devices, suffix, *shape))
    return tuple(made)


@cache
def known_parts() -> dict[str, str]:
    """By device in lower case, the part of the preset that describes it."""
    found: dict[str, str] = {}
    for name in preset_names():
        if name.startswith("fpga/"):
            part = fabric_of(name).part
            for family in families():
                if device := family.device_of(part.lower()):
                    found.setdefault(device, part)
    return found


def fabric_of(preset: str) -> FpgaConfig:
    """The configuration of an FPGA preset, shipped or the user's own file.

    Raises:
        UserError: there is no such preset, or it is none of an FPGA.
    """
    config = find_preset(preset)[1].config
    if not isinstance(config, FpgaConfig):
        raise UserError(f"'{preset}' is no FPGA preset", where="--part", hint=OWN)
    return config


def check_part(part: str) -> None:
    """Whether `part` exists, as far as the table of families knows.

    Raises:
        UserError: it does not; the hint names the nearest part, and how to give a device of one's own.
    """
    if part.startswith("fpga/"):
        fabric_of(part)
        return
    small = part.lower()
    if any(family.holds(small) for family in families()):
        return
    if small in {fabric_of(n).part.lower() for n in preset_names() if n.startswith("fpga/")}:
        return
    unknown = f"'{part}' is not a known part"
    devices = tuple(d for f in families() for d in f.devices)
    close = _closest(re.split("[-_ ]", small)[0], devices)
    of = [f for f in families() if f.device_of(small)] or [f for f in families() if close in f.devices]
    if not of:
        raise UserError(unknown, where="--part", hint=f"for example xcvu13p-flga2577-2-e; {OWN}")
    raise UserError(unknown, where="--part", hint=f"did you mean '{of[0].nearest(small)}'? {OWN}")


def preset_of(part: str) -> str:
    """The preset of the same device, empty when there is none."""
    if part.startswith("fpga/"):
        return part
    small = part.lower()
    device = next((d for f in families() if (d := f.device_of(small))), small)
    for name in preset_names():
        if name.startswith("fpga/"):
            own = fabric_of(name).part.lower()
            if own == small or any(f.device_of(own) == device for f in families()):
                return name
    return ""


def part_number(part: str) -> str:
    """The part number that the vendor's tools are given: that of the preset where a preset was named."""
    return fabric_of(part).part if part.startswith("fpga/") else part
