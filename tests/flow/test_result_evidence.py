"""What a result rests on: measurements only where they apply, coverage counted, never assumed."""

import tetrasim


def test_a_mapping_that_was_never_measured_carries_no_range() -> None:
    small = {"gpu/t4:dram.bytes": 700_000_000}
    streamed = tetrasim.simulate("gpt2-small", "gpu/t4", settings=small, numerics=False).results[0]
    resident = tetrasim.simulate("gpt2-small", "gpu/t4", numerics=False).results[0]
    assert streamed.mapping == "weights streamed over the host link"
    assert not streamed.latency.validated
    assert any("not validated" in warning for warning in streamed.warnings)
    assert resident.latency.validated
    assert resident.coverage.nodes == resident.coverage.nodes_modelled > 100


def test_cycle_exact_time_says_so_and_its_energy_does_not() -> None:
    result = tetrasim.simulate("digits-tiny", "pim/pim-gpt", numerics=False).results[0]
    assert (result.latency.basis, result.energy.basis) == ("simulated", "analytic")
    assert not result.latency.validated
