"""The digits drawn on a canvas: their splits, their boxes, and the cache."""

import pytest
import torch

from advfool.data import DigitsModule, InputFormat
from advfool.data.digits import CANVAS, FRAGMENTS, _place_beside, draw, draw_splits, load_splits
from advfool.utilities.errors import AdvfoolError

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module", autouse=True)
def _fewer_drawings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 2, "selection": 1, "test": 1})
        yield


@pytest.fixture(scope="module")
def splits(_fewer_drawings):
    return draw_splits(0)


def test_no_scan_is_in_two_splits_and_all_classes_are_in_each(splits):
    scans = {name: set(split["scan"].tolist()) for name, split in splits.items()}
    assert sum(map(len, scans.values())) == len(set().union(*scans.values())) == 1797
    for split in splits.values():
        assert set(split["label"].tolist()) == set(range(10))


def test_boxes_lie_on_the_canvas_and_cover_at_most_a_quarter(splits):
    for split in splits.values():
        top, left, bottom, right = split["box"].unbind(1)
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (bottom <= CANVAS).all()
        assert (right <= CANVAS).all()
        assert ((bottom - top) * (right - left) <= CANVAS**2 / 4).all()


def test_the_digit_is_in_its_box_and_fragments_beside_it():
    """Drawn with and without the digit's ink, from the same random numbers, images differ in the box only."""
    scans, others = torch.rand(16, 8, 8), torch.rand(16, FRAGMENTS, 8, 8)
    with_digit, box = draw(scans, others, torch.Generator().manual_seed(3))
    without, _ = draw(torch.zeros_like(scans), others, torch.Generator().manual_seed(3))
    no_fragments, _ = draw(scans, torch.zeros_like(others), torch.Generator().manual_seed(3))
    for i, (top, left, bottom, right) in enumerate(box.long().tolist()):
        changed = (with_digit[i] != without[i]).any(dim=0)
        assert changed.any()
        assert changed[top:bottom, left:right].sum() == changed.sum()
        fragments = (with_digit[i] != no_fragments[i]).any(dim=0)
        assert fragments.sum() > 2 * 9 * 9  # at least two fragments can be seen
        assert fragments[top:bottom, left:right].sum() <= 0.35 * fragments.sum()


def test_fragments_take_the_place_that_covers_least_of_the_digit():
    box, side = torch.tensor([[0.0, 0.0, 28.0, 28.0]]), torch.tensor([14.0])
    candidates = torch.tensor([[[[0.1, 0.1], [0.9, 0.9], [0.5, 0.5]]]])
    place = _place_beside(box, side, candidates)
    assert place.tolist() == [[[37.0, 37.0, 51.0, 51.0]]]


def test_the_same_seed_draws_the_same_and_another_one_does_not(splits):
    again, other = draw_splits(0), draw_splits(1)
    for name, split in splits.items():
        assert all(torch.equal(split[key], again[name][key]) for key in split)
        assert not torch.equal(split["image"], other[name]["image"])


def test_the_cache_returns_what_was_drawn(tmp_path, splits):
    load_splits(tmp_path, 0)
    cached = load_splits(tmp_path, 0)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    for name, split in splits.items():
        assert all(torch.equal(split[key], cached[name][key]) for key in split)


def test_module_batches_limits_and_order(tmp_path):
    def module(**options):
        return DigitsModule(FORMAT, str(tmp_path), batch_size=32, **options)

    data = module(limit_train=100, limit_val=50, limit_test=40)
    assert (len(data.train()), len(data.selection()), len(data.test())) == (100, 50, 40)
    batch = next(iter(data.test_dataloader()))
    assert batch.image.shape == (40, 3, 56, 56)
    assert batch.index.tolist() == list(range(40))
    single = data.test()[7]
    assert torch.equal(single.image, batch.image[7])
    pixels = FORMAT.pixels(single.image) * 255
    assert torch.equal(pixels.round().to(torch.uint8), data.splits["test"]["image"][7])
    order = [b.index.tolist() for b in module(order_seed=1).train_dataloader()]
    assert order == [b.index.tolist() for b in module(order_seed=1).train_dataloader()]
    assert order != [b.index.tolist() for b in module(order_seed=2).train_dataloader()]


def test_another_input_size_is_refused(tmp_path):
    with pytest.raises(AdvfoolError, match="draws 56x56 images, but the network's input size is 224"):
        DigitsModule(InputFormat(224, 256, (0.5,) * 3, (0.5,) * 3), str(tmp_path))
