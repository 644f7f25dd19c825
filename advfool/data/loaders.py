"""Loaders for training, whose order and random draws depend on the seed alone and which resume where they stopped."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler, Subset

from advfool.data.samples import Sample, Samples
from advfool.utilities.random import seeded


class Seeded(Samples):
    """Read samples whose random draws depend on the seed, the number of the pass and the sample's index alone.

    They do not depend on the batch, its size, the worker that reads it, the number of workers or of processes. A key
    is `pass * len(data) + index`, so an index alone is of pass 0.

    Args:
        data: samples, or a `Subset` of samples. What does not vary is read without a seed, a whole batch at once if
            the data can do so.
        seed: decides what is drawn.
    """

    def __init__(self, data: Samples | Subset, seed: int) -> None:
        self.data: Any = data  # a Subset does not say what it holds
        self.seed = seed
        self.samples: Any = data.dataset if isinstance(data, Subset) else data
        self.places = list(data.indices) if isinstance(data, Subset) else range(len(data))
        self.varies = bool(getattr(self.samples, "varies", False))

    def __len__(self) -> int:
        return len(self.places)

    def labels(self) -> Int[Tensor, "n *two"]:
        return self.samples.labels()[list(self.places)]

    def digest(self, indices: Sequence[int] | None = None) -> str:
        return self.samples.digest(self.places if indices is None else [self.places[index] for index in indices])

    def path(self, index: int) -> str | None:
        return self.samples.path(self.places[index])

    def __getitem__(self, key: int) -> Sample:
        number, index = divmod(key, len(self))
        if not self.varies:
            return self.data[index]
        with seeded(self.seed, type(self.samples).__name__, number, self.places[index]):
            return self.data[index]

    def __getitems__(self, keys: list[int]) -> Sample | list[Sample]:
        at_once = getattr(self.data, "__getitems__", None)
        if self.varies or at_once is None:
            return [self[key] for key in keys]
        return at_once([key % len(self) for key in keys])


class Order(DistributedSampler):
    """Yield this process's share of the samples in whole batches, in a new random order for each pass over the data.

    What is yielded are the keys of `Seeded`, of which each is the number of a pass and an index.

    The order depends on the seed and the number of the pass alone. Iterating once gives one turn: a fixed number of
    batches, which may end in the middle of a pass. To resume an interrupted training, set `turn` to the number of the
    turn and `skip` to the number of batches that it has already given.

    Args:
        data: the samples to order.
        batch_size: samples in a batch.
        seed: decides the order.
        replays: how many times in a row each batch is given.
        batches: batches in a turn, not counting replays; None for those of one pass.
    """

    def __init__(self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        super().__init__(data, process_count(), rank, shuffle=True, seed=seed, drop_last=True)
        self.data, self.batch_size, self.replays = data, batch_size, replays
        self.in_a_pass = self.num_samples // batch_size
        self.batches = batches or self.in_a_pass
        self.turn, self.skip = 0, 0

    def __iter__(self) -> Iterator[int]:
        first = self.turn * self.batches
        begin, end = first // self.in_a_pass, (first + self.batches - 1) // self.in_a_pass
        stream = torch.cat([self._pass(number) for number in range(begin, end + 1)])[first % self.in_a_pass :]
        repeated = stream[: self.batches].repeat_interleave(self.replays, dim=0)
        return iter(repeated[self.skip :].flatten().tolist())

    def __len__(self) -> int:
        return self.batches * self.batch_size * self.replays

    def _pass(self, number: int) -> Int[Tensor, "b n"]:
        self.set_epoch(number)  # overrides the epoch that Lightning sets, which counts turns rather than passes
        indices = torch.tensor(list(super().__iter__()))[: self.in_a_pass * self.batch_size]
        return (number * len(self.data) + indices).view(-1, self.batch_size)


class ShuffledLoader(DataLoader):
    """Load shuffled training batches and, after an interruption, resume with the next batch.

    Lightning stores the loader's `state_dict` in its checkpoints.

    Args:
        data: the samples to load.
        batch_size: samples in a batch.
        seed: decides the order and the augmentation.
        replays: how many times in a row each batch is served.
        batches: batches in one iteration, not counting replays; None for those of one pass over the data.
        kwargs: further arguments of `DataLoader`.
    """

    def __init__(
        self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None, **kwargs
    ) -> None:
        order = Order(data, batch_size, seed, replays, batches)
        generator = torch.Generator().manual_seed(seed)  # without it every pass would draw from the global generator
        super().__init__(Seeded(data, seed), batch_size, sampler=order, generator=generator, **kwargs)
        self.order = order
        self.turn, self.seen, self.resumed = -1, 0, False

    # DataLoader annotates its own private iterator class; what iterates over a loader only needs an iterator.
    def __iter__(self) -> Iterator[Sample]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.resumed or self.seen == len(self):
            self.turn, self.seen = self.turn + 1, 0
        self.resumed = False
        self.order.turn, self.order.skip = self.turn, self.seen
        for batch in super().__iter__():
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"turn": self.turn, "seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.turn, self.seen, self.resumed = state["turn"], state["seen"], True


def process_count() -> int:
    """Return the number of processes that train or measure together, 1 without `torch.distributed`."""
    return distributed.get_world_size() if distributed.is_initialized() else 1
