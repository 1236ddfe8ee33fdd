"""The space's own model knobs become dims: whole heads, FFN columns and tokens left out, or a refusal."""

import pytest

from tetrasim.dse.candidate import resolve_point
from tetrasim.dse.graphs import load
from tetrasim.dse.space import Scalar
from tetrasim.dse.spec_file import make_spec
from tetrasim.errors import UserError
from tetrasim.models.config import ModelConfig
from tetrasim.sim.ops.registry import work_of


def model_of(preset: str, **dims: Scalar) -> ModelConfig:
    tree = {
        "model": {"preset": preset, "dims": dims},
        "targets": {"gpu/t4": {}},
        "objectives": ["latency_us"],
    }
    return resolve_point(make_spec(tree), {}).model


def test_kept_heads_have_the_size_of_the_dense_model() -> None:
    model = model_of("gpt2-small", heads_kept=3)
    assert (model.heads, model.kv_heads, model.head_dim, model.width) == (3, 3, 64, 768)
    both = model_of("gpt2-small", width=384, heads_kept=6, ffn_ratio=2, ffn_kept=0.25)
    assert (both.heads, both.head_dim, both.ffn_width) == (6, 32, 192)


def test_kept_tokens_merge_after_the_first_block_or_where_the_study_says() -> None:
    model = model_of("digits-tiny", tokens_kept=0.25)
    assert (model.merge_after, model.merge_size, model.tokens, model.final_tokens) == (1, 4, 16, 4)
    assert model_of("digits-tiny", tokens_kept=0.5, merge_after=2).merge_after == 2
    assert model_of("digits-tiny", tokens_kept=1, merge_after=2).merge_after == 0


@pytest.mark.parametrize(
    ("preset", "dims", "what"),
    [
        ("gpt2-small", {"heads_kept": 13}, "heads_kept = 13 of 12"),
        ("gpt2-small", {"heads_kept": 1.5}, "heads_kept = 1.5"),
        ("llama2-70b", {"heads_kept": 12}, "not a multiple of kv_heads 8"),
        ("gpt2-small", {"ffn_kept": 0}, "ffn_kept = 0"),
        ("digits-tiny", {"tokens_kept": 0.3}, "tokens_kept = 0.3"),
        ("digits-tiny", {"tokens_kept": 1.5}, "tokens_kept = 1.5"),
        ("gpt2-small", {"tokens_kept": 0.5}, "fixed number of tokens"),
    ],
)
def test_what_cannot_be_left_out(preset: str, dims: dict[str, Scalar], what: str) -> None:
    with pytest.raises(UserError, match=what):
        model_of(preset, **dims)


def test_fewer_heads_columns_and_tokens_are_fewer_multiplications() -> None:
    """Times follow from the smaller graph: on a tiny model the merging may cost more than it saves."""

    def macs(**kept: Scalar) -> int:
        tree = {
            "model": {"preset": "digits-tiny", "dims": kept},
            "targets": {"cpu/xeon-6154": {}},
            "objectives": ["latency_us"],
        }
        graph = load(resolve_point(make_spec(tree), {})).phases[0].family.base
        return sum(work_of(node).macs for node in graph.nodes)

    width, ffn, tokens, layers = 16, 32, 16, 2
    projections, products = 4 * width * width * tokens, 2 * tokens * tokens * width
    dense = macs()
    assert macs(heads_kept=1) == dense - layers * (projections + products) // 2
    assert macs(ffn_kept=0.5) == dense - layers * width * ffn * tokens
    second = projections + products + 2 * width * ffn * tokens  # the block after the merging
    fewer = projections // 2 + products // 4 + width * ffn * tokens
    assert macs(tokens_kept=0.5) == dense - second + fewer
