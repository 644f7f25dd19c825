"""What a loader serves depends on the seed, the pass and the image alone, not on who reads it."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from advfool.data import FolderModule, InputFormat, wrap
from advfool.data.composites import composite_splits
from advfool.data.loaders import Seeded
from advfool.data.samples import NO_BOX, Sample, Samples

FORMAT = InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3)


class Jittered(Samples):
    """Images that torch, NumPy and Python draw at random."""

    varies = True

    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def labels(self):
        return torch.zeros(self.count, dtype=torch.long)

    def digest(self, indices=None):
        return ""

    def __getitem__(self, index):
        draws = torch.tensor([[[torch.rand(()).item(), np.random.rand(), random.random()]]])
        return Sample(draws + index, torch.tensor(0), torch.tensor(index), torch.tensor(NO_BOX))


class Drawn(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((1, 4, 4), float(index)) + torch.rand(1, 4, 4), 0


@pytest.fixture
def data(request, photo_folder):
    if request.param == "photos":
        return FolderModule(FORMAT, str(photo_folder), seed=0, order_seed=3)
    module = wrap(Drawn(), selection=Drawn(), test=Drawn(), seed=3)
    if request.param == "every generator":
        module.train = Jittered
    if request.param == "fresh composites":
        images = wrap((torch.rand(60, 1, 8, 8), torch.arange(60) % 2))
        composites = composite_splits(images, (0, 1), 12, 12, fresh=True).train
        module.train = lambda: composites
    return module


def served(data, workers, batch_size, passes=2):
    """The image of each pass by its index, and the order."""
    data.workers, data.batch_size = workers, batch_size
    loader, found = data.train_dataloader(), []
    for _ in range(passes):
        images, order = {}, []
        for batch in loader:
            images |= dict(zip(batch.index.tolist(), batch.image, strict=True))
            order += batch.index.tolist()
        found.append((images, order))
    return found


@pytest.mark.parametrize("data", ["photos", "own data set", "fresh composites", "every generator"], indirect=True)
def test_augmentation_depends_on_neither_workers_nor_batch_size(data):
    torch.manual_seed(1)
    expected = served(data, 0, 3)
    for workers, batch_size in ((0, 3), (1, 3), (3, 3), (3, 2), (0, 1)):
        torch.rand(workers + 1)  # what else was drawn does not matter
        for (images, order), (wanted, wanted_order) in zip(served(data, workers, batch_size), expected, strict=True):
            assert order[: len(wanted_order)] == wanted_order[: len(order)]
            for index in images.keys() & wanted.keys():
                assert torch.equal(images[index], wanted[index]), (workers, batch_size, index)
    first, second = (images for images, _ in expected)
    assert all(not torch.equal(first[index], second[index]) for index in first.keys() & second.keys())
    assert len({tuple(image.flatten().tolist()) for image in first.values()}) == len(first)
    data.seed = 4
    other = served(data, 0, 3)[0][0]
    assert all(not torch.equal(first[index], other[index]) for index in first.keys() & other.keys())


def test_reading_leaves_the_global_generators_as_they_were():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    data = Seeded(Jittered(), 0)
    first, second, later = data[0].image, data[0].image, data[12].image
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert torch.equal(first, second)
    assert ((first - later).abs() > 0).all()  # of the next pass, by each of the three generators


def test_every_measurement_sees_the_same_images_whatever_the_batches():
    data = wrap(Drawn(), selection=Drawn(), test=Drawn(), seed=3)
    found = []
    for workers, batch_size in ((0, 5), (0, 12), (2, 1)):
        data.workers, data.eval_batch_size = workers, batch_size
        found += [torch.cat([batch.image for batch in data.test_dataloader()]) for _ in range(2)]
    assert all(torch.equal(found[0], each) for each in found[1:])
    order = [7, 3, 0]
    part = torch.cat([batch.image for batch in data.in_order(Subset(data.test(), order))])
    assert torch.equal(part, found[0][order])


def test_seeded_samples_state_what_their_samples_do(photo_folder):
    samples = FolderModule(FORMAT, str(photo_folder)).test()
    assert Seeded(samples, 0).digest() == samples.digest(range(6))
    some = Seeded(Subset(samples, [4, 1]), 0)
    assert (len(some), some.path(0), some.digest()) == (2, samples.path(4), samples.digest([4, 1]))
    assert some.labels().tolist() == samples.labels()[[4, 1]].tolist()


def test_replays_of_a_batch_are_the_same_images():
    module = wrap(Drawn(), selection=Drawn(), test=Drawn(), seed=3, batch_size=4)
    module.replays = 3
    batches = [batch.image for batch in module.train_dataloader()]
    assert len(batches) == 9
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumed_in_the_middle_of_a_pass_draws_what_it_would_have_drawn(workers):
    def loader():
        module = wrap(Drawn(), selection=Drawn(), test=Drawn(), seed=3, batch_size=2, workers=workers)
        return module.train_dataloader()

    whole, resumed = loader(), loader()
    images = [batch.image for _ in range(2) for batch in whole]
    resumed.load_state_dict({"turn": 0, "seen": 4})
    found = [batch.image for _ in range(2) for batch in resumed]
    assert torch.equal(torch.stack(found), torch.stack(images[4:]))
