"""CS336's points (72, noise-free): the surface that made them, and the parabola's own bias on it.

python analysis/cs336.py cs336_isoflops.json
"""

import sys

from isoflop import fit
from isoflop.tables import read_points

PUBLISHED = {"E": 2.69, "A": 1606.4, "B": 3210.7, "alpha": 0.34, "beta": 0.36, "a": 0.36 / 0.70}

if len(sys.argv) != 2:
    sys.exit(__doc__)
columns = {"params": "parameters", "flops": "compute_budget", "loss": "final_loss"}
law = fit(read_points(sys.argv[1], columns, tokens_from="6nd"))
print(f"{'':<6} {'published':>12} {'fitted':>14} {'relative':>9}")
for name, value in PUBLISHED.items():
    found = getattr(law.parametric, name)
    print(f"{name:<6} {value:12.7g} {found:14.9g} {found / value - 1:9.1e}")
for name in ("parabola", "akima"):
    method = getattr(law.methods, name)
    print(f"a by {name}: {method.a:.6f} (predicted bias {method.bias_a:+.1e}, true {method.a - PUBLISHED['a']:+.1e})")
