"""Names that reach a path: study names and run ids."""

from __future__ import annotations

import re

from isoflop.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")


def validated_name(name: str) -> str:
    """`name`, if it is a plain path component on every file system.

    Raises
    ------
    InputError
        Unless it is letters, digits, ``.``, ``_`` or ``-``, starts with a letter or digit and has at most 127.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "a name must be letters, digits, '.', '_' or '-', start with a letter or digit and have at most 127 "
            f"characters, but got {name!r}"
        )
    return name


def path_name(text: str) -> str:
    """Make a plain path component of any `text`: what does not belong in one becomes ``-``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "unnamed"
    return validated_name(plain[:127])
