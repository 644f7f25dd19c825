"""Data sets of every kind as a data module."""

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from advfool.data import wrap
from advfool.data.samples import take
from advfool.utilities.errors import AdvfoolError

N = 20
IMAGES = torch.randn(N, 1, 8, 12)  # one channel, not square
LABELS = torch.arange(N) % 4
SPLITS = ("train", "selection", "test")


class Items(Dataset):
    """Whatever a list holds."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Labelled(Items):
    """As torchvision's data sets."""

    def __init__(self, items, targets):
        super().__init__(items)
        self.targets, self.reads = targets, 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


class Lightning(LightningDataModule):
    def setup(self, stage):
        if stage == "fit":
            self.parts = IMAGES[:12], LABELS[:12]
        elif stage == "test":
            self.rest = IMAGES[12:], LABELS[12:]

    def train_dataloader(self):
        return DataLoader(TensorDataset(*self.parts), shuffle=True)

    def test_dataloader(self):
        return DataLoader(TensorDataset(*self.rest))


class LightningWithValidation(Lightning):
    def val_dataloader(self):
        return DataLoader(TensorDataset(IMAGES[:3], LABELS[:3]))


def pairs():
    return list(zip(IMAGES, LABELS.tolist(), strict=True))


KINDS = {
    "pair of tensors": lambda: (IMAGES, LABELS),
    "list of two tensors": lambda: [IMAGES, LABELS],
    "tensor data set": lambda: TensorDataset(IMAGES, LABELS),
    "data set": lambda: Items(pairs()),
    "list of pairs": pairs,
    "labels as tensors and arrays": lambda: Items(
        [
            (image, (torch.tensor(label), np.int64(label), np.array([label]))[i % 3])
            for i, (image, label) in enumerate(pairs())
        ]
    ),
    "arrays": lambda: Items([(image.double().numpy(), label) for image, label in pairs()]),
    "without channels": lambda: Items([(image[0], label) for image, label in pairs()]),
    "subset": lambda: Subset(
        TensorDataset(torch.cat([IMAGES, IMAGES]), torch.cat([LABELS + 9, LABELS])), range(N, 2 * N)
    ),
    "loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3, shuffle=True),
}


def everything(data):
    batches = [take(split(), range(len(split()))) for split in (data.train, data.selection, data.test)]
    return torch.cat([batch.image for batch in batches]), torch.cat([batch.label for batch in batches])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_samples(kind):
    data, expected = wrap(KINDS[kind](), seed=5), wrap((IMAGES, LABELS), seed=5)
    assert [len(getattr(data, name)()) for name in SPLITS] == [14, 2, 4]
    images, labels = everything(data)
    assert torch.equal(images, everything(expected)[0])
    assert torch.equal(labels, everything(expected)[1])
    assert images.dtype == torch.float32
    assert (data.classes, data.labels, data.has_labels) == (tuple("0123"), tuple("0123"), True)
    for name in SPLITS:
        found, wanted = getattr(data, name)(), getattr(expected, name)()
        assert torch.equal(found.labels(), wanted.labels())
        assert found.digest() == wanted.digest()
        assert not found.varies
    assert everything(wrap(KINDS[kind](), seed=6))[1].tolist() != labels.tolist()


def test_samples_are_those_of_the_data_set_and_loaders_give_each_once():
    data = wrap((IMAGES, LABELS), eval_batch_size=3)
    sample = data.test()[1]
    place = (sample.image == IMAGES).flatten(1).all(dim=1).nonzero().item()
    assert (sample.label, sample.index, sample.box.tolist()) == (LABELS[place], 1, [-1] * 4)
    batches = list(data.test_dataloader())
    assert [len(batch.image) for batch in batches] == [3, 1]
    assert torch.cat([batch.index for batch in batches]).tolist() == [0, 1, 2, 3]
    assert next(iter(data.train_dataloader())).image.shape == (14, 1, 8, 12)
    assert len({tuple(image.flatten().tolist()) for image in everything(data)[0]}) == N


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3)])
def test_pictures_and_arrays_of_8_bits_become_pixels(mode, channels):
    pictures = [Image.fromarray(np.full((8, 12, 3), 10 * i, np.uint8)).convert(mode) for i in range(10)]
    arrays = [np.array(picture.convert("L" if channels == 1 else "RGB")) for picture in pictures]
    tensors = torch.stack([torch.tensor(array).view(8, 12, channels).permute(2, 0, 1) for array in arrays])
    images, _ = everything(wrap(Items(pictures)))
    assert images.shape == (10, channels, 8, 12)
    assert sorted(images[:, 0, 0, 0].tolist()) == pytest.approx([10 * i / 255 for i in range(10)])
    assert torch.equal(everything(wrap(Items(arrays)))[0], images)
    assert torch.equal(everything(wrap(tensors))[0], images)


@pytest.mark.parametrize("given", [IMAGES, list(IMAGES), TensorDataset(IMAGES), Items([(i,) for i in IMAGES])])
def test_images_without_labels(given):
    data = wrap(given, classes=7)
    assert not data.has_labels
    assert data.classes == tuple("0123456")
    images, labels = everything(data)
    assert images.shape == IMAGES.shape
    assert (labels == 0).all()


def test_groups_and_scans_are_known_to_the_samples():
    images, groups = torch.rand(20, 1, 8, 8), [f"patient {i // 2}" for i in range(20)]
    test = wrap((images, torch.arange(20) % 3), groups=groups).test()
    assert len(test.groups()) == len(test) == 2 * len(test.groups().unique())
    alone = wrap((images, torch.arange(20) % 3)).with_classes(3).test()
    assert len(alone.groups().unique()) == len(alone)


def test_groups_stay_together_and_given_sets_are_taken():
    groups = torch.arange(N) // 4
    images = groups[:, None, None, None].float().expand(N, 1, 8, 8)
    data = wrap((images, LABELS), groups=groups)
    found = [
        set(take(getattr(data, name)(), range(len(getattr(data, name)()))).image.unique().tolist()) for name in SPLITS
    ]
    assert sum(map(len, found)) == 5 == len(set.union(*found))
    assert [len(each) for each in found] == [3, 1, 1]

    data = wrap((IMAGES, LABELS), test=(IMAGES[:5] + 1, LABELS[:5]))
    assert [len(getattr(data, name)()) for name in SPLITS] == [18, 2, 5]
    assert torch.equal(data.test()[3].image, IMAGES[3] + 1)
    data = wrap((IMAGES, LABELS), selection=(IMAGES[:2], LABELS[:2]), test=(IMAGES[:5], LABELS[:5]))
    assert [len(getattr(data, name)()) for name in SPLITS] == [20, 2, 5]
    assert torch.equal(take(data.train(), range(N)).image, IMAGES)


def test_a_lightning_module_has_its_own_splits():
    data = wrap(Lightning())
    assert [len(getattr(data, name)()) for name in SPLITS] == [11, 1, 8]
    assert torch.equal(take(data.test(), range(8)).image, IMAGES[12:])
    data = wrap(LightningWithValidation())
    assert [len(getattr(data, name)()) for name in SPLITS] == [12, 3, 8]
    data = wrap(LightningWithValidation(), test=(IMAGES[:2], LABELS[:2]))
    assert len(data.test()) == 2
    assert wrap(data) is data


def test_labels_are_not_read_with_the_images_where_the_data_set_states_them():
    dataset = Labelled(pairs(), LABELS.tolist())
    data = wrap(dataset)
    before = dataset.reads
    assert torch.cat([getattr(data, name)().labels() for name in SPLITS]).sum() == LABELS.sum()
    assert dataset.reads == before < 50
    assert torch.equal(everything(wrap(Labelled(pairs(), (LABELS + 1).tolist())))[1], everything(data)[1])


def test_the_range_of_the_values_makes_pictures_and_noise():
    data = wrap((IMAGES * torch.tensor([2.0]) + 1, LABELS), seed=1)
    images = take(data.train(), range(14)).image
    low, high = data.input.pixel_range()
    assert (low, high) == ([images.min().item()], [images.max().item()])
    pixels = data.input.pixels(images)
    assert pixels.min() == pytest.approx(0, abs=1e-6)
    assert pixels.max() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(data.input.normalise(pixels), images)
    assert (data.input.shape, data.input.size) == ((1, 8, 12), 8)
    grey = wrap((torch.full((5, 3, 8, 8), 0.5), torch.zeros(5, dtype=torch.long)))
    assert grey.input.pixels(grey.test()[0].image).isfinite().all()


def test_images_that_carry_gradients_are_detached():
    images = IMAGES.clone().requires_grad_()
    for given in ((images, LABELS), list(zip(images, LABELS.tolist(), strict=True))):
        data = wrap(given, seed=5)
        assert not data.test()[0].image.requires_grad
        assert data.train().digest() == wrap((IMAGES, LABELS), seed=5).train().digest()


def test_images_that_vary_are_noticed_and_leave_random_numbers_alone():
    class Noisy(Items):
        def __getitem__(self, index):
            image, label = self.items[index]
            return image + torch.randn(image.shape), label

    before = torch.get_rng_state()
    data = wrap(Noisy(pairs()))
    assert torch.equal(torch.get_rng_state(), before)
    assert data.train().varies
    assert not wrap(Items(pairs())).train().varies


def test_the_digest_is_of_images_and_labels():
    digest = wrap((IMAGES, LABELS)).train().digest()
    assert wrap((IMAGES + 1, LABELS)).train().digest() != digest != wrap((IMAGES, 3 - LABELS)).train().digest()
    data = wrap((IMAGES, LABELS)).train()
    assert data.digest([0, 1]) != data.digest([1, 0])


def test_workers_read_the_same():
    data = wrap(Items(pairs()), workers=1)
    assert torch.equal(next(iter(data.test_dataloader())).image, take(data.test(), range(4)).image)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pairs())


class Longer(Items):
    """A data set that says it has one item more than it has."""

    def __len__(self):
        return len(self.items) + 1


UNEQUAL = Items([*pairs()[:15], (torch.zeros(1, 9, 12), 0)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: wrap(UNEQUAL),
            r"^dataset: expected items like the first one, an image of shape \(1, 8, 12\) with a label, got an image of "
            r"shape \(1, 9, 12\) with a label at position 15\. Resize or crop all images to one size\.$",
        ),
        (
            lambda: wrap((IMAGES[:2], LABELS[:2])),
            r"^Expected at least 3 images \(or groups of related images\).*, got 2\.",
        ),
        (lambda: wrap((IMAGES, LABELS), groups=[0, 1] * 10), r"^Expected at least 3 images .* groups.*, got 2\."),
        (lambda: wrap((IMAGES, LABELS), groups=[0, 1]), r"^groups: expected a group for each of 20 images, got 2\.$"),
        (lambda: wrap((IMAGES, LABELS), classes=3), r"^dataset: expected labels from 0 to 2 \(3 classes\), got 3\.$"),
        (
            lambda: wrap((IMAGES, LABELS.float())),
            r"^dataset: expected the index of a class for each of 20 images, got labels",
        ),
        (lambda: wrap((IMAGES, LABELS[:5])), r"got labels of torch\.int64 and shape \(5,\)\.$"),
        (
            lambda: wrap(IMAGES.long()),
            r"^dataset: expected a tensor of images .*, got torch\.int64 of shape \(20, 1, 8, 12\)",
        ),
        (
            lambda: wrap(IMAGES[0, 0]),
            r"^dataset: expected a tensor of images .*, got torch\.float32 of shape \(8, 12\)",
        ),
        (lambda: wrap(Items([(image, "cat") for image in IMAGES])), r"expected a label .* from 0, got 'cat'\.$"),
        (
            lambda: wrap(Items([(image, 1, 2) for image in IMAGES])),
            r"expected \(image, label\) or an image, got 3 values",
        ),
        (lambda: wrap(Items(["a.jpg"] * 5)), r"expected an image as a PIL image, or as a tensor .*, got str\.$"),
        (lambda: wrap(Items([])), r"^dataset: expected at least one image, got none\.$"),
        (lambda: wrap(Stream()), r"^dataset: expected a data set with a length and items by index, got Stream\."),
        (
            lambda: wrap((IMAGES, LABELS), test=IMAGES),
            r"^Expected images of one shape in all data sets, all with labels or none",
        ),
        (
            lambda: wrap((IMAGES / 0, LABELS)),
            r"^dataset: expected finite images, got NaN or infinite values at position \d+\.$",
        ),
        (lambda: wrap((IMAGES, LABELS), workers=-1), r"^workers must be a whole number from 0 to 1024, got -1"),
        (
            lambda: wrap((IMAGES, LABELS), batch_size=True),
            r"^batch_size must be a whole number of at least 1, got True\.$",
        ),
        (lambda: wrap("photos"), r"^dataset: expected a data set, .*, got str\. For a folder give torchvision"),
        (lambda: wrap(Longer(pairs())), r"^dataset, position 20: there is no such item, although .* length is 21"),
        (lambda: wrap(IMAGES.to_sparse()), r"^dataset: expected dense images .* layout torch\.sparse_coo"),
        (lambda: wrap(IMAGES.to("meta")), r"^dataset: expected dense images .* on meta"),
        (lambda: wrap(IMAGES[..., :0]), r"^dataset: expected dense images with pixels .* shape \(20, 1, 8, 0\)"),
        (lambda: wrap(list(IMAGES[..., :0])), r"^dataset, position 0: expected an image with pixels"),
        (
            lambda: wrap((IMAGES, LABELS), classes=0),
            r"^classes must be a whole number of at least 1 or a list .*, got 0\.$",
        ),
        (lambda: wrap((IMAGES, LABELS), classes="abcd"), r"^classes must be a whole number .*, got 'abcd'\.$"),
        (lambda: wrap((IMAGES, LABELS + 2**40)), r"^dataset: expected labels that are indices .*, got 1099511627779\."),
        (lambda: wrap((IMAGES, LABELS), batch_size=0), r"^batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_what_cannot_be_wrapped(build, message):
    with pytest.raises(AdvfoolError, match=message):
        build()
