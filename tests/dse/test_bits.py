"""Bits per tensor class become the number format of a target that has them, or a refusal with its list."""

import pytest

from tetrasim.dse.bits import ROLES, settings_for
from tetrasim.dse.candidate import configured, resolve_point
from tetrasim.dse.evaluate import evaluate
from tetrasim.dse.spec_file import make_spec
from tetrasim.errors import UserError

TREE: dict[str, object] = {
    "model": {"preset": "gpt2-small", "dims": {"layers": 1, "input.vocab": 512}},
    "workload": {"prompt": 8, "generate": 2},
    "objectives": ["token_us", "weights_bytes"],
}


@pytest.mark.parametrize(
    ("preset", "wanted", "bits"),
    [
        ("gpu/t4", {"weights": 4}, (4, 16, 16, 32)),
        ("gpu/t4", {"weights": 8, "activations": 16}, (8, 16, 16, 32)),
        ("gpu/t4", {"activations": 32}, (32, 32, 32, 32)),
        ("cpu/xeon-6154", {"weights": 8}, (8, 32, 32, 32)),
        ("pim/aim", {"weights": 8}, (8, 8, 8, 32)),
        ("fpga/zcu102", {"weights": 11}, (11, 11, 11, 27)),
        ("fpga/zcu102", {"weights": 11, "accumulate": 24}, (11, 11, 11, 24)),
        ("fpga/zcu102", {"weights": 8, "activations": 16}, (8, 16, 16, 32)),
    ],
)
def test_the_target_has_the_bits_asked_for(
    preset: str, wanted: dict[str, int], bits: tuple[int, ...]
) -> None:
    setup = configured(preset, settings_for(preset, tuple(wanted.items())))
    precision = setup.target.precision(setup.config)
    assert tuple(getattr(precision, role).bits for role in ROLES) == bits


@pytest.mark.parametrize(
    ("preset", "wanted", "hint"),
    [
        ("gpu/t4", {"weights": 3}, "int4 (4, 16, 16, 32)"),
        ("gpu/t4", {"weights": 8, "activations": 8}, "int8 (8, 16, 16, 32)"),
        ("pim/aim", {"weights": 8, "activations": 16}, "int8 (8, 8, 8, 32)"),
        ("fpga/zcu102", {"weights": 6, "activations": 12}, "fixed (any width)"),
    ],
)
def test_what_a_target_has_not_is_refused(preset: str, wanted: dict[str, int], hint: str) -> None:
    with pytest.raises(UserError, match="has no number format with") as caught:
        settings_for(preset, tuple(wanted.items()))
    assert hint in caught.value.hint


def test_the_presets_own_format_comes_first() -> None:
    assert settings_for("gpu/t4", (("weights", 16),)) == (("precision", "float16"),)
    assert settings_for("pim/aim", (("weights", 16),)) == (("precision", "bfloat16"),)


def test_one_axis_serves_several_targets_and_a_missing_format_is_a_note() -> None:
    """4-bit weights: a GPU has them, DRAM-PIM has not, and says so as an impossible point."""
    targets: dict[str, object] = {"gpu/t4": {}, "pim/aim": {}}
    spec = make_spec({**TREE, "targets": targets, "bits": {"weights": [4, 8, 16]}})
    assert spec.grid_size == 6
    sizes = [
        evaluate(resolve_point(spec, {"target": "gpu/t4", "bits.weights": b})).metrics["weights_bytes"]
        for b in (4, 8, 16)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    with pytest.raises(UserError, match="'pim/aim' has no number format with 4-bit weights"):
        resolve_point(spec, {"target": "pim/aim", "bits.weights": 4})


@pytest.mark.parametrize(
    ("bits", "paths", "what"),
    [
        ({"weights": [3, 8]}, {}, "no number format with 3-bit weights"),
        ({"weights": [8.5]}, {}, "bits.weights"),
        ({"weight": 8}, {}, "unknown key 'bits.weight'"),
        ({"weights": 8}, {"precision": "float16"}, "both bits and 'gpu/t4:precision'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    bits: dict[str, object], paths: dict[str, object], what: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_spec({**TREE, "targets": {"gpu/t4": paths}, "bits": bits})
    assert what in caught.value.what
