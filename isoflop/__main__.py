"""``python -m isoflop``: the command line, where no script was installed."""

from __future__ import annotations

from isoflop.cli import main

main()
