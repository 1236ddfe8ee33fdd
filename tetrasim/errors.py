"""Errors for people.

Every mistake a user can make ends in a `UserError`: what was wrong, where, the nearest valid choice and
the next step. The command line prints it without a traceback and exits with 2; anything else that
escapes is our defect (exit 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input.

    Args:
        what: one sentence, what is wrong, with the offending value quoted.
        where: file and line, node name, option or config path; empty when there is none.
        hint: the nearest valid choice and the next step.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class UnsupportedOpError(UserError):
    """An op has no reference semantics or no cost model (DESIGN rule 1: no silent zero)."""


class CapacityError(UserError):
    """The model does not fit the device; the message carries both byte counts."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """`"did you mean 'x'?"` for the closest of `choices`, else a short list of them. What begins with `name`
    is closer than what resembles it: `gpu/h100` is meant to be `gpu/h100-sxm`, not `gpu/h20`."""
    known = sorted(set(choices))
    begun = [choice for choice in known if name and choice.lower().startswith(name.lower())]
    if len(begun) > 1:
        more = f", … ({len(begun)} in all)" if len(begun) > 6 else ""
        return f"did you mean one of {', '.join(begun[:6])}{more}?"
    close = begun or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    listed = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return f"known: {listed}" if known else "there is none"
