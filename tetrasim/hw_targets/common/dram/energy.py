"""Energy of DRAM commands from data-sheet currents, always volts x milliamperes x nanoseconds.

    activation + precharge = VDD (IDD0 tRC - IDD3N tRAS - IDD2N (tRC - tRAS))    per bank
    burst                  = VDD (IDD4 - IDD3N) x burst time
    refresh                = VDD (IDD5 - IDD3N) tRFC
    standby                = VDD IDD2N (all closed), VDD IDD3N (a row open)

(Micron TN-40-07 power calculation; the same formulas as DRAMsim3, with tCK kept.) A device file may state
measured energies instead; they take precedence.
"""

from __future__ import annotations

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.device import Device


def _ns(device: Device, *names: str) -> float:
    for name in names:
        if name in device.timing:
            return device.timing[name] * device.tck_ps * 1e-3
    raise UserError(f"timing value '{names[0]}' is missing", where=device.file, hint="energy needs it")


def activation_pj(device: Device) -> float:
    """One bank's activation and precharge.

    Raises:
        UserError: the currents make it negative (then at least one of them is wrong).
    """
    e = device.energy
    if e.act_pre_pj:
        return e.act_pre_pj
    trc, tras = _ns(device, "nRC"), _ns(device, "nRAS")
    value = e.vdd_v * (e.idd0_ma * trc - e.idd3n_ma * tras - e.idd2n_ma * (trc - tras))
    if value < 0:
        raise UserError(
            f"the currents give an activation energy of {value:.0f} pJ",
            where=device.file,
            hint="IDD0 must exceed the mean of IDD3N and IDD2N: check idd0_ma, idd2n_ma, idd3n_ma",
        )
    return value


def burst_pj(device: Device, *, write: bool) -> float:
    """Array and data path of one burst, up to the pins."""
    e = device.energy
    given = e.write_pj if write else e.read_pj
    if given:
        return given
    current = (e.idd4w_ma if write else e.idd4r_ma) - e.idd3n_ma
    return max(0.0, e.vdd_v * current * _ns(device, "nBL"))


def refresh_pj(device: Device) -> float:
    """One all-bank refresh above active standby."""
    e = device.energy
    if not e.idd5_ma:
        return 0.0
    return max(0.0, e.vdd_v * (e.idd5_ma - e.idd3n_ma) * _ns(device, "nRFCab", "nRFC"))


def standby_w(device: Device) -> float:
    """Precharged standby of one channel."""
    return device.energy.vdd_v * device.energy.idd2n_ma * 1e-3
