"""Splits that keep related items together."""

from itertools import chain, combinations

import pytest

from advfool.data.splitting import split_groups
from advfool.utilities.errors import AdvfoolError

SHARES = {"test": 0.2, "selection": 0.1, "train": 0.7}


@pytest.mark.parametrize(("n", "sizes"), [(100, (20, 10, 70)), (10, (2, 1, 7)), (3, (1, 1, 1)), (17, (3, 2, 12))])
def test_shares_of_single_items_are_exact_up_to_rounding(n, sizes):
    parts = split_groups(range(n), SHARES, seed=0)
    assert tuple(len(parts[name]) for name in SHARES) == sizes
    assert sorted(chain(*parts.values())) == list(range(n))
    assert parts == split_groups(range(n), SHARES, seed=0)
    assert n == 3 or parts != split_groups(range(n), SHARES, seed=1)


def test_a_group_lies_in_one_part_and_parts_are_about_as_large_as_asked():
    groups = [f"patient {i % 23}" for i in range(200)]
    parts = split_groups(groups, SHARES, seed=3)
    found = {name: {groups[i] for i in part} for name, part in parts.items()}
    assert not any(found[a] & found[b] for a, b in combinations(SHARES, 2))
    assert {name: pytest.approx(len(part) / 200, abs=0.05) for name, part in parts.items()} == SHARES


def test_every_part_has_a_group_however_large_the_groups_are():
    parts = split_groups(["a"] * 98 + ["b", "c"], SHARES, seed=0)
    assert all(parts.values())


def test_too_few_groups():
    with pytest.raises(AdvfoolError) as error:
        split_groups([0, 0, 1, 1], SHARES, seed=0)
    assert str(error.value) == (
        "Expected at least 3 images (or groups of related images), to split them into test, selection, train, got 2. "
        "Give more images, or data sets of your own: selection=..., test=..."
    )
