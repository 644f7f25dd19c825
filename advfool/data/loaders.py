"""Loaders for training whose order depends on the seed alone and that resume where they stopped."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler

from advfool.data.samples import Sample, Samples


class Order(DistributedSampler):
    """This process's share of the samples, in whole batches, pass after pass, each in a new random order.

    The order depends on the seed and the pass alone. A turn is so many batches: those of one pass, or `batches`,
    wherever passes end. Each comes `replays` times in a row. A training that was interrupted goes on in `turn` after
    `skip` of them.
    """

    def __init__(self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        super().__init__(data, process_count(), rank, shuffle=True, seed=seed, drop_last=True)
        self.batch_size, self.replays = batch_size, replays
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
        self.set_epoch(number)  # (Lightning sets its own count, which turns are not)
        return torch.tensor(list(super().__iter__()))[: self.in_a_pass * self.batch_size].view(-1, self.batch_size)


class ShuffledLoader(DataLoader):
    """A loader for training that goes on, after an interruption, with the batch that would have come next.

    Lightning keeps its `state_dict` in checkpoints.
    """

    def __init__(
        self, data: Samples, batch_size: int, seed: int, replays: int = 1, batches: int | None = None, **kwargs
    ) -> None:
        order = Order(data, batch_size, seed, replays, batches)
        generator = torch.Generator().manual_seed(seed)  # else every pass would draw from the global one
        super().__init__(data, batch_size, sampler=order, generator=generator, **kwargs)
        self.turn, self.seen, self.resumed = -1, 0, False

    def __iter__(self) -> Iterator[Sample]:
        if not self.resumed or self.seen == len(self):
            self.turn, self.seen = self.turn + 1, 0
        self.resumed = False
        self.sampler.turn, self.sampler.skip = self.turn, self.seen
        for batch in super().__iter__():
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"turn": self.turn, "seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.turn, self.seen, self.resumed = state["turn"], state["seen"], True


def process_count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1
