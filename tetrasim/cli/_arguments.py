"""Options that take several values: `--on pim/pim-gpt gpu/t4` becomes `--on pim/pim-gpt --on gpu/t4`.

The option parser underneath takes one value per option; people write lists. The model may stand before or
after the list: a bare word that does not look like a value of the option ends the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tetrasim.errors import UserError, nearest

_LISTS = ("--on", "--dim", "--set", "--input", "--expect")


def expand_lists(arguments: Sequence[str]) -> list[str]:
    """Repeat the option name before every further value of a list option."""
    out: list[str] = []
    option, taken, positional = "", 0, False
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*out, *arguments[position:]]
        if argument.startswith("-") and len(argument) > 1:
            option, taken = (argument if argument in _LISTS else ""), 0
            out.append(argument)
            continue
        if option and taken and _belongs(option, argument, positional):
            out += [option, argument]
        else:
            # The first bare word before any option is the model (or the op) that a command works on.
            positional = positional or position == 0
            out.append(argument)
            if taken:
                option = ""
        taken += bool(option)
    return out


def _belongs(option: str, argument: str, positional: bool) -> bool:
    """Is a further bare word a value of the list option? With the model already given, every word is."""
    if option in ("--dim", "--set", "--input", "--expect"):
        return "=" in argument
    return positional or ("/" in argument and not argument.endswith(".onnx"))


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """`["batch=1"]` -> `{"batch": "1"}`.

    Raises:
        UserError: a value without `=`, an empty name, or a name given twice.
    """
    out: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name or not text:
            raise UserError(f"'{value}' is not NAME=VALUE", where=option, hint=f"write {option} NAME=VALUE")
        if name in out:
            raise UserError(f"'{name}' is given twice", where=option, hint="keep one of them")
        out[name] = text
    return out


def dims(values: Iterable[str], option: str = "--dim") -> dict[str, int]:
    """`--dim batch=1` as whole numbers, 0 included: a first call has a past of length 0."""
    out: dict[str, int] = {}
    for name, text in pairs(values, option).items():
        if not text.isdecimal() or not text.isascii():
            raise UserError(
                f"{option} '{name}' is '{text}', not a whole number",
                where=option,
                hint=f"write {option} {name}=1",
            )
        out[name] = int(text)
    return out


def settings(values: Iterable[str]) -> dict[str, str | int | float | bool]:
    """`--set dram.channels=16` with the value read as YAML reads a scalar."""
    return {name: _scalar(text) for name, text in pairs(values, "--set").items()}


def _scalar(text: str) -> str | int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def choose(value: str, known: Sequence[str], option: str) -> str:
    """`value`, when it is one of `known`.

    Raises:
        UserError: with the nearest known value.
    """
    if value not in known:
        raise UserError(f"'{value}' is not known", where=option, hint=nearest(value, known))
    return value
