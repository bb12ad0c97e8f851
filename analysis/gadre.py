"""Gadre et al. 2024: a on C4's validation set with and without embeddings, as in their fits (Huber, 1e-3).

python analysis/gadre.py losses.csv
"""

import sys

from isoflop.fitting.groups import fit_groups
from isoflop.tables import by_group, read_points

VALIDATION = "val=c4_val/shard-{0000000..0000010}.tar"
PUBLISHED = {"c4_original": (0.509, 0.534), "rpj": (0.529, 0.586), "rw_original": (0.566, 0.606)}

if len(sys.argv) != 2:
    sys.exit(__doc__)
columns = {"params_non_embedding": "params_no_embed"}
points = read_points(sys.argv[1], columns, tokens_from="6nd", where=[VALIDATION])
print(f"{'trained on':<12} {'N counts':<14} {'published':>9} {'ours':>7}")
for name, law in fit_groups(by_group(points, "dataset"), huber_delta=1e-3, bootstrap=200).items():
    for value, found in zip(PUBLISHED[name], law.conventions, strict=True):
        print(f"{name:<12} {found.convention:<14} {value:9.3f} {found.parametric_a:7.4f}")
