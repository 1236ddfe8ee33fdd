"""Weight sparsity costs accuracy and saves nothing where zeros are not skipped; a study has to ask for it."""

import pytest

from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.evaluate import evaluate
from tetrasim.dse.space import Scalar
from tetrasim.dse.spec_file import make_spec
from tetrasim.errors import UserError

TREE: dict[str, object] = {"targets": {"cpu/xeon-6154": {}}, "workload": {"prompt": 8}}
COSTS = ("latency_us", "energy_mj", "weights_bytes", "memory_bytes", "parameters")


def metrics(model: dict[str, object], objectives: list[str], sparsity: Scalar) -> dict[str, float]:
    dims = {"sparsity": sparsity}
    spec = make_spec({**TREE, "model": {"dims": dims, **model}, "objectives": objectives})
    outcome = evaluate(resolve_point(spec, {}))
    assert outcome.metrics, outcome.note
    return outcome.metrics


def test_sparse_digits_lose_accuracy_and_gain_no_time() -> None:
    model: dict[str, object] = {"preset": "digits-tiny", "train": True, "steps": 10}
    dense, half, most = (metrics(model, ["accuracy", "nonzero_parameters"], s) for s in (0.0, "2:4", 0.95))
    assert dense["accuracy"] > 0.8
    assert most["accuracy"] < half["accuracy"] <= dense["accuracy"] + 0.02
    assert all(dense[name] == half[name] == most[name] for name in COSTS)
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert dense["nonzero_parameters"] - half["nonzero_parameters"] == matrices / 2


def test_a_proxy_compares_with_the_dense_model() -> None:
    """Float32 arithmetic agrees with itself: what is left is the pruning; a share of ~0 prunes nothing."""
    dense, none, half = (metrics({"preset": "digits-tiny"}, ["proxy_cosine"], s) for s in (0.0, 1e-9, 0.5))
    assert dense["proxy_cosine"] == none["proxy_cosine"] > 0.999999
    assert half["proxy_cosine"] < 0.999


@pytest.mark.parametrize(
    ("objectives", "sparsity", "what"),
    [
        (["latency_us", "energy_mj"], [0.0, 0.5], "sparsity changes no metric of this study"),
        (["proxy_top1"], [0.5, 1.5], "sparsity 1.5 is no pattern"),
        (["proxy_top1"], ["2-4"], "sparsity '2-4' is no pattern"),
    ],
)
def test_refused_before_anything_runs(objectives: list[str], sparsity: list[Scalar], what: str) -> None:
    with pytest.raises(UserError) as caught:
        make_spec(
            {
                **TREE,
                "model": {"preset": "digits-tiny", "dims": {"sparsity": sparsity}},
                "objectives": objectives,
            }
        )
    assert what in caught.value.what
