"""Preset files: every number has a source, and every mistake names file, line and the nearest key."""

from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.common.target import Config


class Dram(Config):
    channels: int
    bandwidth_bytes_per_s: float


class Device(Config):
    cores: int
    dtype: str = "float16"
    dram: Dram


GOOD = """title: A device
cores: {value: 4, source: data sheet}
dtype: bfloat16
dram:
  channels: {value: 2, source: data sheet, mark: memory}
  bandwidth_bytes_per_s: {value: 1.0e9, source: data sheet}
"""


def load(tmp_path: Path, text: str) -> Device:
    file = tmp_path / "device.yaml"
    file.write_text(text)
    return load_preset(file, "toy/device", Device).config


def test_values_and_sources(tmp_path: Path) -> None:
    file = tmp_path / "device.yaml"
    file.write_text(GOOD)
    preset = load_preset(file, "toy/device", Device)
    assert preset.config == Device(
        cores=4, dtype="bfloat16", dram=Dram(channels=2, bandwidth_bytes_per_s=1e9)
    )
    assert [(s.path, s.mark, s.line) for s in preset.sources] == [
        ("cores", "", 2),
        ("dram.channels", "memory", 5),
        ("dram.bandwidth_bytes_per_s", "", 6),
    ]
    assert preset.marks == ("memory",)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("cores:", "corse:", 2, "did you mean 'cores'?"),
        ("  channels:", "  chanels:", 5, "did you mean 'channels'?"),
        ("{value: 4, source: data sheet}", "4", 2, "a number without a source"),
        ("{value: 4, source: data sheet}", "{value: 4}", 2, "names no source"),
        ("mark: memory", "mark: memry", 5, "did you mean 'memory'?"),
        ("value: 4", "value: four", 2, "'cores' = 'four'"),
        ("1.0e9", ".nan", 6, "finite"),
        ("dtype: bfloat16", "cores: {value: 5, source: x}", 3, "given twice"),
        ("title: A device", "title: [", None, "not valid YAML"),
        ("dtype: bfloat16", "dtype: &a bfloat16\nother: *a", None, "aliases"),
        ("dtype: bfloat16", "dtype: !!python/name:os.system", 3, "no plain value"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, old: str, new: str, line: int | None, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert says in str(caught.value)
    assert (f"device.yaml:{line}" if line else "device.yaml") in str(caught.value)


def test_a_missing_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'dram' is missing"):
        load(tmp_path, GOOD.split("dram:", maxsplit=1)[0])


def test_overrides_validate_again(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert with_overrides(config, {"dram.channels": 8}).dram.channels == 8
    with pytest.raises(UserError, match=r"did you mean 'dram.channels'"):
        with_overrides(config, {"dram.chanels": 8})
    with pytest.raises(UserError, match=r"dram.channels"):
        with_overrides(config, {"dram.channels": "many"})
