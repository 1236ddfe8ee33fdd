"""Part numbers: real ones are accepted, slips are answered with the part that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls.parts import check_part, fabric_of, part_number, preset_of
from tetrasim.hw_targets.registry import preset_names

REAL = (
    *("xcvu13p-flga2577-2-e", "xcvu13p-fhga2104-3-e", "XCVU9P-FLGB2104-2-I", "xcu250-figd2104-2L-e"),
    *("xcu55c-fsvh2892-2L-e", "xczu9eg-ffvb1156-2-e", "xczu28dr-ffvg1517-2-e", "xck26-sfvc784-2LV-c"),
    *("xcku115-flvb2104-2-i", "xcku040-ffva1156-2-e", "xcku5p-ffvb676-2-e", "xc7z020clg400-1"),
    *("xc7z020-clg400-1", "xc7a100tcsg324-1", "xc7a35ticsg324-1L", "xc7k325tffg900-2"),
    *("xc7vx690tffg1927-2", "xcvc1902-vsva2197-2MP-e-S", "xcv80-lsva4737-2MHP-e-S", "AGFB014R24A2E2V"),
)
SLIPS = {
    "xcvu13p": "xcvu13p-flga2577-2-e",
    "xcvu13": "xcvu13p-flga2577-2-e",
    "xcvu13p-flga2577-9-zz": "xcvu13p-flga2577-2-e",
    "xcvu13p-flga2577-2-x": "xcvu13p-flga2577-2-e",
    "xcvu13p-flga2578-2-e": "xcvu13p-flga2577-2-e",
    "xcvu13p-flga257-2-e": "xcvu13p-flga2577-2-e",
    "xcvu13p_flga2577_2_e": "xcvu13p-flga2577-2-e",
    "xc7z02clg400-1": "xc7z020clg400-1",
    "xc7z020clg400": "xc7z020clg400-1",
    "xcu251-figd2104-2L-e": "xcu250-figd2104-2l-e",
}


@pytest.mark.parametrize("part", REAL)
def test_real_parts_are_accepted(part: str) -> None:
    check_part(part)


@pytest.mark.parametrize("name", [n for n in preset_names() if n.startswith("fpga/")])
def test_the_part_of_every_preset_is_real_and_finds_a_preset(name: str) -> None:
    part = fabric_of(name).part
    check_part(part)
    assert fabric_of(preset_of(part)).part == part


@pytest.mark.parametrize(("written", "meant"), SLIPS.items())
def test_a_slip_is_answered_with_the_part_that_was_meant(written: str, meant: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_part(written)
    assert f"'{written}' is not a known part" in refusal.value.what
    assert f"did you mean '{meant}'?" in refusal.value.hint.lower()
    assert "fpga/path/to/mine.yaml" in refusal.value.hint
    check_part(meant)


@pytest.mark.parametrize("written", ["virtex", "", "xc6slx9-tqg144-2", "; rm -rf ~"])
def test_what_is_like_no_part_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(UserError, match="is not a known part") as refusal:
        check_part(written)
    assert "for example xcvu13p-flga2577-2-e" in refusal.value.hint


def test_a_preset_of_ones_own_brings_its_part(tmp_path: Path) -> None:
    from tetrasim.hw_targets import fpga

    shipped = (Path(fpga.__file__).parent / "presets" / "vu13p.yaml").read_text()
    own = tmp_path / "mine.yaml"
    own.write_text(shipped.replace("xcvu13p-flga2577-2-e", "my-own-part-1"))
    given = f"fpga/{own}"
    check_part(given)
    assert part_number(given) == "my-own-part-1"
    assert preset_of(given) == given
