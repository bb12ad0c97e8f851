"""Porian et al. 2024: a and b of every experiment from Akima minima of the log loss, published against ours.

python analysis/porian.py FOLDER        (with isoflops.csv and published_fits.csv)
"""

import sys
from pathlib import Path

import pandas as pd

from isoflop.fitting.groups import fit_groups
from isoflop.tables import by_group, read_points

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = Path(sys.argv[1])
published = pd.read_csv(folder / "published_fits.csv").set_index("exp")
laws = fit_groups(by_group(read_points(folder / "isoflops.csv"), "exp"), minimum="akima", bootstrap=200)
print(f"{'':<56} {'a':>6} {'ours':>6} {'off':>7}  {'b':>6} {'ours':>6} {'off':>7}  refused")
for name, law in laws.items():
    a, b = published.loc[name, ["a_basic", "b_basic"]]
    ours = law.methods.akima
    refused = ", ".join(f"{minimum.budget:.3g}" for minimum in law.minima if minimum.params is None)
    print(f"{name:<56} {a:6.3f} {ours.a:6.3f} {ours.a - a:+7.4f}  {b:6.3f} {ours.b:6.3f} {ours.b - b:+7.4f}  {refused}")
