"""Traces of addresses, as other DRAM simulators read them, as requests to one channel.

- DRAMsim3: `0x1000 READ 10` (address, READ or WRITE, the cycle at which it arrives);
- Ramulator 1 (DRAM traces): `0x1000 R`;
- Ramulator 2 (`LoadStoreTrace`): `LD 0x1000` or `ST 4096`; (`ReadWriteTrace`) `R 0,0,1,2,5,3`, the address
  by level (channel, rank, bank group, bank, row, column).

An address in bytes is taken apart as row, bank, bank group, rank, column from its highest bits (Ramulator's
`RoBaRaCoCh` without channel bits, DRAMsim3's `rorabgbachco` with the ranks inside): neighbours share a row.
The cycle of arrival is read and not used: the trace is issued in order, each command as early as it may.
"""

from __future__ import annotations

import re
from math import prod

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.device import Device

_WORDS = {
    "READ": "read", "R": "read", "LD": "read", "P_MEM_RD": "read",
    "WRITE": "write", "W": "write", "ST": "write", "P_MEM_WR": "write",
}  # fmt: skip
_NUMBER = r"(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})"
_ADDRESS_FIRST = re.compile(rf"({_NUMBER})[\s,]+([A-Za-z_]+)(?:[\s,]+([0-9]+))?")
_WORD_FIRST = re.compile(rf"([A-Za-z]+)\s+({_NUMBER})")
_BY_LEVEL = re.compile(r"([A-Za-z]+)\s+(-?\d+(?:,-?\d+){4,5})")
_LEVELS = ("channel", "rank", "bg", "bank", "row", "col")


def address_lines(text: str, device: Device, where: str) -> list[tuple[int, dict[str, str]]] | None:
    """(line, request and address by column) of every line; None: the text is no trace of addresses.

    Raises:
        UserError: a line of another form among lines of addresses.
    """
    out: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.partition("#")[0].strip()
        if not plain:
            continue
        found = _request(plain, device)
        if found is None and not out:
            return None
        if found is None:
            raise UserError(
                f"'{plain[:60]}' is no request",
                where=f"{where}:{number}",
                hint="an address, then READ or WRITE; or LD or ST, then an address",
            )
        out.append((number, found))
    return out or None


def _request(line: str, device: Device) -> dict[str, str] | None:
    levels = _BY_LEVEL.fullmatch(line)
    if levels and levels[1].upper() in _WORDS:
        given = levels[2].split(",")
        names = _LEVELS if len(given) == len(_LEVELS) else _LEVELS[1:]
        position = {
            name: value for name, value in zip(names, given, strict=True) if name not in ("channel", "col")
        }
        return {"request": _WORDS[levels[1].upper()], **position}
    first, second = _ADDRESS_FIRST.fullmatch(line), _WORD_FIRST.fullmatch(line)
    word, address = (first[2], first[1]) if first else (second[1], second[2]) if second else ("", "")
    if word.upper() not in _WORDS:
        return None
    return {"request": _WORDS[word.upper()], **_position(int(address, 0), device)}


def _position(address: int, device: Device) -> dict[str, str]:
    """The bank and row of a byte address; beyond the device it starts again, as in a larger memory."""
    counts = {level.name: level.count for level in device.levels[1:]}
    ranks = counts.get("Rank", 1) * counts.get("PseudoChannel", 1)
    rest = address // device.row_bytes
    rest, rank = divmod(rest, ranks)
    rest, group = divmod(rest, counts.get("BankGroup", 1))
    rest, bank = divmod(rest, counts.get("Bank", 1))
    assert prod(counts.values()) == device.banks
    return {"rank": str(rank), "bg": str(group), "bank": str(bank), "row": str(rest % device.rows)}
