"""Safe identifiers: names from a model never reach C++, a path or a shell as they are."""

from __future__ import annotations

import re

RESERVED = frozenset(
    [
        "alignas",
        "alignof",
        "and",
        "asm",
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "const",
        "continue",
        "default",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "explicit",
        "export",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "main",
        "namespace",
        "new",
        "not",
        "nullptr",
        "operator",
        "or",
        "private",
        "protected",
        "public",
        "register",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "while",
        "xor",
        "input",
        "output",
        "nnet",
        "std",
    ]
)
MAX_LENGTH = 40


class Namer:
    """Unique C identifiers made of [a-z0-9_], starting with a letter."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """A fresh identifier that resembles `name`."""
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:MAX_LENGTH].strip("_") or "layer"
        if not plain[0].isalpha() or plain in RESERVED:
            plain = f"n_{plain}"
        unique, count = plain, 1
        while unique in self._taken:
            count += 1
            unique = f"{plain}_{count}"
        self._taken.add(unique)
        return unique
