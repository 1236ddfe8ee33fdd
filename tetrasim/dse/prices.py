"""What a study costs in money: prices that the study gives with their source, never ones of ours.

A device is bought (`usd`) or rented (`usd_per_hour`). What is bought is written off evenly over the seconds
that it is busy: `usd / (years x busy_share)`, plus the electricity of the run. A rent includes electricity.
Prices are not part of an evaluation: outcomes in the store serve studies with other prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    from tetrasim.dse.space import StudySpec
    from tetrasim.sim.workload import Workload

PRICE = "price_usd"
PER_TOKEN, PER_RUN = "usd_per_million_tokens", "usd_per_million_runs"
COSTS = (PRICE, PER_TOKEN, PER_RUN)
_SECONDS_PER_YEAR = 365.25 * 24 * 3600
_MJ_PER_KWH = 3.6e9  # millijoules


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(_Frozen):
    """What one device costs, and who says so: its purchase or an hour of it."""

    usd: float | None = Field(default=None, gt=0)
    usd_per_hour: float | None = Field(default=None, gt=0)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Price:
        if (self.usd is None) == (self.usd_per_hour is None):
            raise ValueError("give usd (bought) or usd_per_hour (rented), one of them")
        return self


class Ownership(_Frozen):
    """What turns a purchase into cost per second: years of use, share of them that the device is busy, and
    the price of electricity."""

    years: float = Field(gt=0)
    busy_share: float = Field(gt=0, le=1)
    usd_per_kwh: float = Field(ge=0)
    source: str = Field(min_length=1)


def cost_metrics(
    spec: StudySpec, target: str, workload: Workload, metrics: Mapping[str, float]
) -> dict[str, float]:
    """The cost metrics that the study's prices give, from `latency_us` and `energy_mj`.

    Grows with both: of lower bounds it is a lower bound.
    """
    price, own = spec.prices.get(target), spec.ownership
    if price is None or "latency_us" not in metrics:
        return {}
    seconds = metrics["latency_us"] * 1e-6
    out: dict[str, float] = {}
    if price.usd_per_hour is not None:
        usd = price.usd_per_hour / 3600 * seconds
    else:
        assert price.usd is not None  # one of the two, as checked
        out[PRICE] = price.usd
        if own is None or "energy_mj" not in metrics:
            return out
        usd = price.usd / (own.years * _SECONDS_PER_YEAR * own.busy_share) * seconds
        usd += metrics["energy_mj"] / _MJ_PER_KWH * own.usd_per_kwh
    out[PER_RUN] = usd / workload.batch * 1e6
    if workload.generate:
        out[PER_TOKEN] = usd / (workload.batch * workload.generate) * 1e6
    return out


def check_prices(spec: StudySpec, wanted: set[str], where: str) -> None:
    """Refuse prices of targets that are not searched, and cost metrics without what they need.

    Raises:
        UserError: naming the target and what to add.
    """
    for target in spec.prices:
        if target not in spec.targets:
            raise UserError(
                f"a price for '{target}', which is no target of the study",
                where=f"{where}: prices",
                hint=nearest(target, spec.targets),
            )
    costs = [name for name in COSTS if name in wanted]
    for target in spec.targets if costs else ():
        price = spec.prices.get(target)
        if price is None:
            raise UserError(
                f"'{costs[0]}' needs the price of '{target}', and tetrasim knows none",
                where=f"{where}: prices",
                hint=f'add `prices: {{{target}: {{usd: …, source: "…"}}}}`, or usd_per_hour',
            )
        if price.usd is None and PRICE in costs:
            raise UserError(
                f"'{target}' is rented by the hour, so it has no {PRICE}",
                where=f"{where}: prices",
                hint=f"give its usd, or use {PER_TOKEN}",
            )
        if price.usd is not None and spec.ownership is None and costs != [PRICE]:
            raise UserError(
                f"'{costs[-1]}' of '{target}', which is bought, needs its years of use and electricity",
                where=f"{where}: ownership",
                hint='add `ownership: {years: …, busy_share: …, usd_per_kwh: …, source: "…"}`',
            )
