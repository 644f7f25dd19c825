"""Pairs of heatmaps to compare."""

import torch
from hypothesis import strategies as st

SIMILARITIES = ("spearman", "pearson", "cosine", "ssim", "topk_intersection")


def maps(n=6, height=7, width=9, dtype=torch.float64, seed=0):
    return torch.randn(n, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_ties(n=6, height=7, width=9, seed=0):
    return torch.randint(4, (n, height, width), generator=torch.Generator().manual_seed(seed)).double() - 1.5


pairs = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), st.integers(0, 10_000), st.booleans()).map(
    lambda s: [(with_ties if s[4] else maps)(*s[:3], seed=s[3] + k) for k in range(2)]
)
