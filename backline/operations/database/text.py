"""Statements as they may be shown: literals may be a listener's data, or a password."""

from __future__ import annotations

import re

_PARTS = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<dollar> \$(?P<tag>[A-Za-z_]\w*)?\$ .*? (?:\$(?(tag)(?P=tag))\$|\Z) )
    | (?P<escape> [eE]'(?:\\.|''|[^'\\])*(?:'|\Z) )
    | (?P<string> (?:[uU]&|[bBxXnN])?'(?:''|[^'])*(?:'|\Z) )
    | (?P<name> "(?:""|[^"])*(?:"|\Z) )
    | (?P<word> [^\W\d]\w* )
    | (?P<parameter> \$\d+ )
    | (?P<number> \.?\d[\w.]* )
    """,
    re.VERBOSE | re.DOTALL,
)
_LISTS = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")


def normalised(statement: str) -> str:
    """A statement on one line with `?` for each literal, without comments.

    One that was cut off within a literal, as PostgreSQL does with long ones, keeps nothing of it.
    """

    def shown(match: re.Match[str]) -> str:
        if match["name"] or match["word"] or match["parameter"]:
            return match[0]
        return " " if match["comment"] else "?"

    text = " ".join(_PARTS.sub(shown, statement).split())
    return _LISTS.sub("(…)", text)


def one_line(statement: str) -> str:
    """A statement as it is, on one line."""
    return " ".join(statement.split())
