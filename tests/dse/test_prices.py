"""Costs follow from prices that the study gives with their source, and are refused without them."""

from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.executors import InProcess, outcome_of
from tetrasim.dse.report import to_html
from tetrasim.dse.space import Point
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study
from tetrasim.errors import UserError

OWNED = {"years": 4, "busy_share": 0.5, "usd_per_kwh": 0.2, "source": "our hall, 2026"}
BOUGHT: dict[str, object] = {"usd": 2000.0, "source": "a dealer's list"}
RENTED: dict[str, object] = {"usd_per_hour": 0.5, "source": "a cloud's list"}
PRICES: dict[str, dict[str, object]] = {"gpu/t4": BOUGHT, "cpu/xeon-6154": RENTED}
TREE: dict[str, object] = {
    "name": "priced",
    "model": {"preset": "gpt2-small", "dims": {"layers": 1, "input.vocab": 512}},
    "workload": {"batch": [2, 4], "prompt": 8, "generate": 3},
    "targets": {"gpu/t4": {}, "cpu/xeon-6154": {}},
    "objectives": ["usd_per_million_tokens", "latency_us"],
    "prices": PRICES,
    "ownership": OWNED,
    "search": {"sampler": "grid", "trials": 9},
}


def test_cost_is_the_devices_time_and_electricity(tmp_path: Path) -> None:
    spec, store = make_spec(dict(TREE)), Store(tmp_path)
    bought = outcome_of(spec, {"target": "gpu/t4", "workload.batch": 4}, store).metrics
    seconds, kwh = bought["latency_us"] * 1e-6, bought["energy_mj"] * 1e-3 / 3.6e6
    usd = 2000.0 * seconds / (4 * 365.25 * 86400 * 0.5) + 0.2 * kwh
    assert bought["price_usd"] == 2000.0
    assert bought["usd_per_million_runs"] == pytest.approx(usd / 4 * 1e6)
    assert bought["usd_per_million_tokens"] == pytest.approx(usd / 12 * 1e6)
    rented = outcome_of(spec, {"target": "cpu/xeon-6154", "workload.batch": 2}, store).metrics
    assert "price_usd" not in rented
    hours = rented["latency_us"] * 1e-6 / 3600
    assert rented["usd_per_million_tokens"] == pytest.approx(0.5 * hours / 6 * 1e6)


def test_another_price_uses_the_same_evaluations(tmp_path: Path) -> None:
    point: Point = {"target": "gpu/t4", "workload.batch": 2}
    store = Store(tmp_path)
    cheap = outcome_of(make_spec(dict(TREE)), point, store).metrics
    files = sorted(tmp_path.rglob("*.json"))
    dear = make_spec({**TREE, "prices": {**PRICES, "gpu/t4": {**BOUGHT, "usd": 4000.0}}})
    costly = outcome_of(dear, point, store).metrics
    assert sorted(tmp_path.rglob("*.json")) == files
    assert costly["latency_us"] == cheap["latency_us"]
    assert costly["usd_per_million_tokens"] > cheap["usd_per_million_tokens"]
    assert costly["price_usd"] == 2 * cheap["price_usd"]


@pytest.mark.parametrize(
    ("changes", "what", "hint"),
    [
        ({"prices": {"gpu/t4": BOUGHT}}, "needs the price of 'cpu/xeon-6154'", "add `prices: {cpu/xeon"),
        ({"prices": {}}, "needs the price of 'gpu/t4'", "usd_per_hour"),
        ({"prices": {**PRICES, "gpu/t5": BOUGHT}}, "a price for 'gpu/t5'", "gpu/t4"),
        ({"ownership": None}, "needs its years of use", "busy_share"),
        ({"objectives": ["price_usd"]}, "is rented by the hour", "usd_per_million_tokens"),
        ({"objectives": ["cost"]}, "unknown metric 'cost'", "price_usd"),
        ({"prices": {"gpu/t4": {"usd": 1.0}}}, "prices.gpu/t4.source' is missing", ""),
        ({"prices": {"gpu/t4": {"source": "x"}}}, "usd (bought) or usd_per_hour", ""),
        ({"prices": {"gpu/t4": {**BOUGHT, "usd": -1}}}, "greater than 0", ""),
        ({"prices": {"gpu/t4": {**BOUGHT, "us": 1}}}, "unknown key 'prices.gpu/t4.us'", "usd"),
        ({"workload": {"prompt": 8}}, "needs 1 generated token", "generate"),
    ],
)
def test_mistakes(changes: dict[str, object], what: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        make_spec({**TREE, **changes})
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_the_page_names_prices_with_their_source_and_escapes_them(tmp_path: Path) -> None:
    prices = {**PRICES, "gpu/t4": {"usd": 2000.0, "source": "<script>alert(1)</script>"}}
    spec = make_spec({**TREE, "prices": prices})
    state = run_study(spec, folders.start(spec, tmp_path / "s"), InProcess(spec, Store(tmp_path / "store")))
    assert len(state.trials) == 4
    assert state.front
    page = to_html(state)
    assert "a cloud&#39;s list" in page
    assert "our hall, 2026" in page
    assert "<script>alert" not in page
