"""Splits and subsets of lists of items, the same for the same seed."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from advfool.utilities.errors import AdvfoolError

Item = tuple[Path, int]  # an image file and its label


def split_off(items: list[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Split a random part off a list, of at least one item and not of all.

    Args:
        items: at least two.
        fraction: share of the items to split off, from 0 to 1.
        seed: decides which items are split off.

    Returns:
        The rest, and the part that was split off, both in their former order.

    Raises:
        AdvfoolError: there are fewer than two items.
    """
    if len(items) < 2:
        raise AdvfoolError(f"Cannot split {len(items)} image(s) into two parts; give at least 2.")
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(max(round(fraction * len(items)), 1), len(items) - 1)
    chosen = set(order[:count])
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]


def take_subset(items: list[Item], limit: int | None, how: str, seed: int) -> list[Item]:
    """Take a random subset of a list, in its former order.

    Args:
        items: files with their labels.
        limit: number of items to take; None for all.
        how: `random`, or `balanced` to take the classes in turn, so that their counts differ by at most one.
        seed: decides which items are taken.
    """
    if limit is None or limit >= len(items):
        return items
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    if how == "balanced":
        turn: dict[int, int] = {}
        rank = {}
        for i in order:
            rank[i] = turn[items[i][1]] = turn.get(items[i][1], -1) + 1
        order.sort(key=rank.__getitem__)  # stable: within a turn the classes stay in random order
    return [items[i] for i in sorted(order[:limit])]


def group_numbers(groups: Sequence[Hashable]) -> Int[Tensor, "n"]:
    """Number the groups of items from 0, in the order in which they appear.

    >>> group_numbers(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])


def split_groups(groups: Sequence[Hashable], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Split items at random into parts, with all items of a group in the same part.

    Args:
        groups: the group of each item.
        shares: the fraction of the items that belongs to each part, by the name of the part. Parts have these numbers
            of items as nearly as the sizes of the groups allow, and at least one group; the last part takes the rest.
        seed: decides which groups belong to which part.

    Returns:
        The positions of the items of each part, in ascending order.

    Raises:
        AdvfoolError: there are fewer groups than parts.
    """
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    if len(members) < len(shares):
        raise AdvfoolError(
            f"Expected at least {len(shares)} images (or groups of related images), to split them into "
            f"{', '.join(shares)}, got {len(members)}. Give more images, or data sets of your own: selection=..., "
            "test=..."
        )
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    waiting = [list(members.values())[place] for place in order]
    *first, last = shares
    parts: dict[str, list[int]] = {}
    for index, name in enumerate(first):
        target, found = shares[name] * len(groups), waiting.pop(0)
        parts_after = len(first) - index
        while len(waiting) > parts_after and abs(len(found) + len(waiting[0]) - target) < abs(len(found) - target):
            found = found + waiting.pop(0)
        parts[name] = sorted(found)
    parts[last] = sorted(position for group in waiting for position in group)
    return parts
