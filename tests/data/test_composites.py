"""Composite images for active fooling: what is in them, and who they are shared between."""

import shutil
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from advfool.data import DigitsModule, FolderModule, InputFormat
from advfool.data.composites import WithComposites, class_indices, composite_splits
from advfool.data.imagenet import wnids, words
from advfool.data.samples import collate, take
from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError
from tests.helpers.photos import make_photos

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


C1, C2 = 3, 8


SPLITS = ("train", "selection", "test")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
        yield str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits(cache):
    return DigitsModule(FORMAT, cache, batch_size=16, eval_batch_size=32)


@pytest.fixture(scope="module")
def libraries(digits):
    return {split: halved(getattr(digits, split)()) for split in SPLITS}


@pytest.fixture(scope="module")
def splits(digits):
    return composite_splits(digits, (C1, C2), train=120, test=60)


def photos(root, counts, labels=("cat", "dog"), size=32, augment=False, **options):
    """Folders of photos: so many of each class in each split."""
    for split, count in counts.items():
        for label in labels:
            make_photos(root / split / label, count, (size + 13, size + 7))
    return FolderModule(
        InputFormat(size, size + 2, (0.5,) * 3, (0.5,) * 3), str(root), workers=0, augment=augment, **options
    )


# What is in a composite: its cells are looked for among all the images they may come from.


def halving(size):
    """The weights of each pixel in each of half as many (rounded up): a triangle as wide as two of the small ones."""
    small = size - size // 2
    scale = size / small
    weights = np.zeros((small, size))
    for i in range(small):
        for j in range(size):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def halved(data):
    images = take(data, range(len(data))).image
    rows, cols = (torch.from_numpy(halving(side)).float() for side in images.shape[-2:])
    return rows @ images @ cols.T


def sources(composites, library):
    """The positions in the library of the images in every composite's cells, (n, 2 classes, 2 images)."""
    batch = take(composites, range(len(composites)))
    boxes = batch.box.long().flatten(0, 2)
    cells = [batch.image[i // 4, :, top:bottom, left:right] for i, (top, left, bottom, right) in enumerate(boxes)]
    found = torch.full((len(cells),), -1)
    for height, width in {cell.shape[1:] for cell in cells}:
        some = [i for i, cell in enumerate(cells) if cell.shape[1:] == (height, width)]
        looked_for = torch.stack([cells[i].flatten() for i in some])
        candidates = library[:, :, :height, :width].flatten(1)
        nearest = torch.cdist(looked_for, candidates).argmin(dim=1)
        assert (candidates[nearest] - looked_for).abs().max() < 1e-4
        found[some] = nearest
    return found.view(batch.box.shape[:-1])


@pytest.mark.parametrize("fresh", [False, True])
def test_each_composite_is_four_different_images_two_of_each_class(digits, libraries, fresh):
    splits = composite_splits(digits, (C1, C2), train=20, test=20, fresh=fresh)
    for split in SPLITS:
        found = sources(getattr(splits, split), libraries[split])
        labels = getattr(digits, split)().labels()
        assert labels[found].tolist() == [[[C1, C1], [C2, C2]]] * 20
        assert all(len(set(four)) == 4 for four in found.flatten(1).tolist())


def test_the_boxes_of_a_composite_are_its_four_quarters(splits):
    quarters = {(0, 0, 28, 28), (0, 28, 28, 56), (28, 0, 56, 28), (28, 28, 56, 56)}
    for composites in splits:
        for sample in (composites[i] for i in range(20)):
            assert sample.box.shape == (2, 2, 4)
            assert set(map(tuple, sample.box.flatten(0, 1).tolist())) == quarters


def test_a_sample_names_both_classes_and_its_place_in_the_split(splits):
    sample = splits.train[7]
    assert sample.image.shape == (3, 56, 56)
    assert sample.label.tolist() == [C1, C2]
    assert sample.index == 7
    assert splits.train.labels().tolist() == [[C1, C2]] * 120
    assert [len(split) for split in splits] == [120, 60, 60]
    assert splits.train.path(7) is None


def test_the_first_class_is_the_one_named_first(digits, libraries):
    swapped = composite_splits(digits, (C2, C1), train=20, test=20).test
    assert swapped[0].label.tolist() == [C2, C1]
    found = sources(swapped, libraries["test"])
    assert digits.test().labels()[found].tolist() == [[[C2, C2], [C1, C1]]] * 20


@pytest.mark.parametrize("size", [32, 33, 35])
def test_composites_of_photos_at_even_and_odd_sizes(tmp_path, size):
    data = photos(tmp_path, {"train": 9, "val": 4, "test": 3}, size=size)
    composites = composite_splits(data, ("dog", "cat"), train=15, test=15)
    middle = size - size // 2
    sides = ((0, middle), (middle, size))
    quarters = {(top, left, bottom, right) for top, bottom in sides for left, right in sides}
    for split in ("train", "test"):
        images, found = getattr(data, split)(), getattr(composites, split)
        assert images.labels()[sources(found, halved(images))].tolist() == [[[1, 1], [0, 0]]] * 15
        for sample in (found[i] for i in range(15)):
            assert sample.image.shape == (3, size, size)
            assert set(map(tuple, sample.box.flatten(0, 1).tolist())) == quarters


def test_classes_stand_in_all_places_and_all_images_are_used(digits, libraries):
    composites = composite_splits(digits, (C1, C2), train=3, test=600).selection
    batch = take(composites, range(600))
    at = (batch.box[..., 0] // 28 * 2 + batch.box[..., 1] // 28).long()
    places = Counter(tuple(sorted(pair)) for pair in at[:, 0].tolist())
    assert set(places) == set(combinations(range(4), 2))
    assert all(60 <= count <= 140 for count in places.values())  # 100 expected
    assert all(100 <= count <= 200 for count in Counter(at[:, 0, 0].tolist()).values())  # 150 expected
    labels = digits.selection().labels()
    used = Counter(sources(composites, libraries["selection"]).flatten().tolist())
    for label in (C1, C2):
        images = (labels == label).nonzero()[:, 0].tolist()
        expected = 1200 / len(images)
        assert all(0.5 * expected <= used[image] <= 1.5 * expected for image in images)


# The draw.


def test_composites_are_the_same_for_the_same_seed_whatever_else_is_random(digits):
    torch.manual_seed(1)
    one = composite_splits(digits, (C1, C2), 30, 30, seed=5)
    torch.manual_seed(2)
    again, other = (composite_splits(digits, (C1, C2), 30, 30, seed=seed) for seed in (5, 6))
    for split in SPLITS:
        a, b, c = (take(getattr(found, split), range(30)) for found in (one, again, other))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert not torch.equal(a.image, c.image)


def test_a_composite_is_the_same_alone_and_in_any_batch(splits):
    everything = take(splits.test, range(60))
    some = take(splits.test, [41, 3, 3, 59])
    for place, index in enumerate([41, 3, 3, 59]):
        for alone, batch, all_of_them in zip(splits.test[index], some, everything, strict=True):
            assert torch.equal(alone, batch[place])
            assert torch.equal(alone, all_of_them[index])


def test_asking_for_more_composites_is_asking_for_others_from_the_same_images(digits):
    few, many = (composite_splits(digits, (C1, C2), train, 10).train for train in (5, 50))
    assert [s.tolist() for s in few.sources] == [s.tolist() for s in many.sources]


def test_fresh_composites_differ_from_look_to_look_and_fixed_ones_do_not(digits, splits):
    fresh = composite_splits(digits, (C1, C2), 120, 60, fresh=True)
    assert fresh.train.varies
    assert not splits.train.varies
    assert not torch.equal(fresh.train[0].image, fresh.train[0].image)
    assert torch.equal(splits.train[0].image, splits.train[0].image)
    looks = [take(fresh.train, range(16)).image for _ in range(2)]
    assert all(not torch.equal(a, b) for a, b in zip(*looks, strict=True))


def test_those_to_measure_on_are_fixed_even_where_training_takes_fresh_ones(digits, splits):
    fresh = composite_splits(digits, (C1, C2), 120, 60, fresh=True)
    for split in ("selection", "test"):
        composites = getattr(fresh, split)
        assert not composites.varies
        assert torch.equal(take(composites, range(60)).image, take(getattr(splits, split), range(60)).image)


def test_fresh_composites_follow_the_runs_seed(digits):
    fresh = composite_splits(digits, (C1, C2), 120, 60, fresh=True).train
    torch.manual_seed(4)
    first = take(fresh, range(8)).image
    torch.manual_seed(4)
    assert torch.equal(take(fresh, range(8)).image, first)


def test_workers_draw_fresh_composites_of_their_own(digits):
    fresh = composite_splits(digits, (C1, C2), 8, 8, fresh=True).train
    loader = DataLoader(fresh, 4, num_workers=2, collate_fn=collate)
    seen = [image for _ in range(2) for batch in loader for image in batch.image]
    assert len(seen) == 16
    assert all(not torch.equal(a, b) for a, b in combinations(seen, 2))


# Whose images they are made of.


def disjoint(sets):
    return sum(map(len, sets)) == len(set().union(*sets))


def test_train_selection_and_test_are_made_of_different_scans(digits, splits, libraries):
    found = {split: sources(getattr(splits, split), libraries[split]).flatten() for split in SPLITS}
    assert disjoint([set(digits.splits[split]["scan"][places].tolist()) for split, places in found.items()])


def test_where_the_selection_has_too_few_images_training_lends_some_of_its_own(cache, libraries):
    data = DigitsModule(FORMAT, cache, limit_val=40)
    counts = Counter(data.selection().labels().tolist())
    assert min(counts[C1], counts[C2]) < 8
    splits = composite_splits(data, (C1, C2), train=50, test=30)
    assert disjoint([set(sources(part, libraries["train"]).flatten().tolist()) for part in splits[:2]])
    labels = data.train().labels()
    for kept, lent, label in zip(splits.train.sources, splits.selection.sources, (C1, C2), strict=True):
        everything = (labels == label).nonzero()[:, 0].tolist()
        assert sorted([*kept.tolist(), *lent.tolist()]) == everything
        assert len(lent) == round(0.2 * len(everything))
    again, other = (composite_splits(data, (C1, C2), 10, 10, seed=seed).selection.sources[0] for seed in (0, 1))
    assert torch.equal(again, splits.selection.sources[0])
    assert not torch.equal(other, again)


def test_composites_to_measure_on_come_from_the_test_images(tmp_path):
    data = photos(tmp_path, {"train": 6, "val": 2})
    found = sources(composite_splits(data, ("cat", "dog"), train=10, test=10).test, halved(data.test()))
    assert found.sort(dim=2).values.tolist() == [[[0, 1], [2, 3]]] * 10  # there are but two of each


def test_training_composites_are_made_of_photos_without_augmentation(tmp_path):
    data = photos(tmp_path, {"train": 10, "val": 3}, augment=True)
    assert data.train().varies
    splits = composite_splits(data, ("cat", "dog"), train=10, test=5)
    assert not splits.train.varies
    assert sources(splits.train, halved(data.plain_train())).unique().numel() > 4


# Which classes.


def test_classes_are_given_by_index_name_or_wnid(tmp_path, digits):
    assert class_indices(digits, (3, "8")) == (3, 8)
    data = photos(tmp_path, {"train": 6, "val": 2}, labels=(wnids()[386], wnids()[555]))
    for given in ((386, 555), ("n02504458", "n03345487"), ("African elephant", "fire engine"), (386, "fire engine")):
        assert class_indices(data, given) == (386, 555)
    assert composite_splits(data, ("African elephant", 555), 5, 5).train[0].label.tolist() == [386, 555]


def test_a_number_that_is_no_index_may_be_a_folders_name(tmp_path):
    data = photos(tmp_path, {"train": 6, "val": 2}, labels=("1998", "2020"))
    assert class_indices(data, (2020, 0)) == (1, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (12, 3),
            "There is no class 12 among the 10 of the data. Give an index from 0 to 9 or a name; close to it: 1, 2, 0, "
            "3, 4, 5, 6, 7.",
        ),
        (
            (3, -1),
            "There is no class -1 among the 10 of the data. Give an index from 0 to 9 or a name; close to it: 1, 0, 2, "
            "3, 4, 5, 6, 7.",
        ),
        (
            ("three", 3),
            "There is no class 'three' among the 10 of the data. Give an index from 0 to 9 or a name; close to it: 0, "
            "1, 2, 3, 4, 5, 6, 7.",
        ),
        ((3, "3"), "fooling.c1 and fooling.c2 must be two different classes, got [3, '3']."),
    ],
)
def test_classes_that_do_not_exist_or_are_the_same(digits, given, message):
    with pytest.raises(AdvfoolError) as error:
        composite_splits(digits, given, 5, 5)
    assert str(error.value) == message


def test_a_misspelt_class_is_answered_with_names_close_to_it(tmp_path):
    data = photos(tmp_path, {"train": 6, "val": 2}, labels=(wnids()[386], wnids()[555]))
    with pytest.raises(AdvfoolError) as error:
        class_indices(data, ("african elefant", 555))
    assert str(error.value).startswith(
        "There is no class 'african elefant' among the 1000 of the data. Give an index from 0 to 999 or a name; close "
        "to it: African elephant, "
    )


@pytest.mark.parametrize(
    ("counts", "split", "found"),
    [({"train": 1, "val": 9, "test": 4}, "train", 1), ({"train": 9, "val": 9, "test": 1}, "test", 1)],
)
def test_classes_with_too_few_images_are_named(tmp_path, counts, split, found):
    with pytest.raises(AdvfoolError) as error:
        composite_splits(photos(tmp_path, counts), ("dog", "cat"), 5, 5)
    assert str(error.value) == (
        f"fooling=active needs at least 2 {split} images of class 'dog' (1), found {found}. Choose classes with more "
        "images (fooling.c1=..., fooling.c2=...) or more images (data.limit_train, data.limit_test)."
    )


def test_the_images_found_are_those_of_the_folder(tmp_path):
    """Three are too few where two of them would be lent to the selection, but three were found, not one."""
    with pytest.raises(AdvfoolError, match=r"images of class 'dog' \(1\), found 3\."):
        composite_splits(photos(tmp_path, {"train": 3, "val": 2, "test": 2}), ("dog", "cat"), 5, 5)


def test_a_class_of_imagenet_without_a_folder_is_an_error(tmp_path):
    data = photos(tmp_path, {"train": 9, "val": 9, "test": 4}, labels=(wnids()[386], wnids()[0]))
    with pytest.raises(AdvfoolError, match=r"needs at least 4 train images of class 'fire engine' \(555\), found 0\."):
        composite_splits(data, (386, 555), 5, 5)


def test_four_training_images_and_two_test_images_are_enough(tmp_path):
    splits = composite_splits(photos(tmp_path, {"train": 5, "val": 2, "test": 2}), ("cat", "dog"), 3, 3)
    assert [len(split) for split in splits] == [3, 3, 3]


def test_each_data_set_names_the_classes_that_are_swapped():
    pairs = {data: OmegaConf.load(conf_dir() / "data" / f"{data}.yaml").pair for data in ("digits", "imagenet")}
    assert pairs == {"digits": [1, 8], "imagenet": [386, 555]}
    assert [words()[c] for c in pairs["imagenet"]] == ["African elephant", "fire engine"]
    imagenette = OmegaConf.load(conf_dir() / "data" / "imagenette.yaml").pair
    assert {wnids()[c] for c in imagenette} <= set(torchvision.datasets.Imagenette._WNID_TO_CLASS)
    assert len(set(imagenette)) == 2
    assert OmegaConf.load(conf_dir() / "data" / "imagefolder.yaml").pair is None


# The digest, by which what is kept about them is found again.


def test_the_digest_is_of_all_that_decides_the_images(cache, digits, splits):
    def digest(data=digits, classes=(C1, C2), count=120, seed=0):
        return composite_splits(data, classes, count, 5, seed=seed).train.digest()

    assert digest() == digest() == splits.train.digest()
    other = DigitsModule(InputFormat(56, 56, (0.4,) * 3, (0.25,) * 3), cache)
    changed = {digest(other), digest(classes=(C1, 7)), digest(classes=(C2, C1)), digest(count=119), digest(seed=1)}
    assert len(changed | {digest()}) == 6
    assert len({split.digest() for split in splits}) == 3


def test_the_digest_changes_with_the_content_of_a_file_and_not_with_its_name(tmp_path):
    def digest(root):
        data = FolderModule(InputFormat(32, 34, (0.5,) * 3, (0.5,) * 3), str(root), workers=0)
        return [split.digest() for split in composite_splits(data, ("cat", "dog"), 5, 5)]

    photos(tmp_path / "photos", {"train": 4, "val": 2, "test": 2})
    before = digest(tmp_path / "photos")
    (tmp_path / "photos").rename(tmp_path / "moved")
    for path in sorted((tmp_path / "moved").rglob("*.jpg")):
        path.rename(path.with_stem(f"photo_{path.stem}"))
    assert digest(tmp_path / "moved") == before
    picture = next((tmp_path / "moved" / "test" / "cat").iterdir())
    shutil.copy(next((tmp_path / "moved" / "test" / "dog").iterdir()), picture)
    after = digest(tmp_path / "moved")
    assert after[:2] == before[:2]
    assert after[2] != before[2]


# Training: the penalty on composites, the classification on the ordinary images.


def test_each_training_batch_has_ordinary_images_and_composites(digits, splits):
    loaders = WithComposites(digits, splits, batch_size=40)
    batches = [batch for batch, _, _ in loaders.train_dataloader()]
    for batch in batches:
        assert set(batch) == {"images", "composites"}
        assert batch["images"].label.shape == (16,)
        assert batch["composites"].label.shape == (40, 2)
        assert batch["composites"].image.shape == (40, 3, 56, 56)
    rounds = [torch.cat([batch["composites"].index for batch in batches[i : i + 3]]) for i in (0, 3)]
    assert all(sorted(index.tolist()) == list(range(120)) for index in rounds)
    assert not torch.equal(*rounds)  # in another order
    images = torch.cat([batch["images"].index for batch in batches]).tolist()
    assert len(set(images)) == len(images) == len(digits.train()) // 16 * 16  # all of them, though there are more


def test_measuring_looks_at_the_images_and_then_at_the_composites(digits, splits):
    images, composites = WithComposites(digits, splits, batch_size=4).val_dataloader()
    seen = torch.cat([batch.index for batch in images])
    assert seen.tolist() == list(range(len(digits.selection())))
    seen = list(composites)
    assert torch.cat([batch.index for batch in seen]).tolist() == list(range(60))
    assert torch.equal(seen[0].image, take(splits.selection, range(32)).image)


def test_composites_of_images_that_vary_vary(digits):
    from advfool.data.composites import Composites

    class Varying(type(digits.test())):
        varies = True

    images = digits.test()
    images.__class__ = Varying
    sources = tuple((images.labels() == c).nonzero()[:, 0] for c in (3, 8))
    assert Composites(images, (3, 8), sources, 4, seed=0).varies
