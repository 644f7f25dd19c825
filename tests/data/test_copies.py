"""Pictures with the same content in several splits or classes."""

import logging
import shutil

import pytest
import torch
import torchvision

from advfool.data import FolderModule, InputFormat, wrap
from advfool.data import copies as module
from tests.helpers.photos import make_photos


def folder(root, **options):
    return FolderModule(InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3), str(root), workers=0, **options)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_same_picture_in_two_splits_is_reported_by_both_names(photo_folder, caplog):
    train, val = photo_folder / "train" / "cat", photo_folder / "val" / "cat"
    shutil.copy(train / "2.jpg", val / "other.jpg")
    (val / "linked.jpg").symlink_to(train / "3.jpg")
    folder(photo_folder)
    (message,) = warnings(caplog)
    assert message.startswith("2 pictures are in more than one split")
    for first, second in (("2.jpg", "other.jpg"), ("3.jpg", "linked.jpg")):
        assert f"'{train / first}' = test '{val / second}'" in message


def test_the_same_picture_in_two_random_parts_of_one_folder_is_reported(tmp_path, caplog):
    for label in ("cat", "dog"):
        make_photos(tmp_path / label, 10)
        for number in range(10):
            shutil.copy(tmp_path / label / f"{number}.jpg", tmp_path / label / f"{number} copy.jpg")
    data = folder(tmp_path, val_fraction=0.5)
    (message,) = warnings(caplog)
    splits = {path: split for split, items in data.items.items() for path, _ in items}
    pairs = [(path, path.with_name(f"{path.stem} copy.jpg")) for path in splits if "copy" not in path.name]
    expected = sum(splits[first] != splits[second] for first, second in pairs)
    assert message.startswith(f"{expected} pictures are in more than one split")


def test_the_same_picture_in_two_classes_is_reported(photo_folder, caplog):
    shutil.copy(photo_folder / "val" / "cat" / "0.jpg", photo_folder / "val" / "dog" / "x.jpg")
    folder(photo_folder)
    (message,) = warnings(caplog)
    assert message.startswith("1 pictures are in more than one class")


def test_copies_in_one_split_and_class_and_pictures_of_one_size_are_not_reported(photo_folder, caplog, monkeypatch):
    place = photo_folder / "val" / "cat"
    shutil.copy(place / "0.jpg", place / "copy.jpg")
    content = (place / "0.jpg").read_bytes()
    (photo_folder / "train" / "cat" / "x.jpg").write_bytes(content + b"1")  # of one size and beginning
    (photo_folder / "val" / "dog" / "y.jpg").write_bytes(content + b"2")
    folder(photo_folder)
    assert not warnings(caplog)
    shutil.copy(place / "0.jpg", photo_folder / "train" / "cat" / "y.jpg")
    monkeypatch.setattr(module, "COMPARED", 3)
    folder(photo_folder)
    assert not warnings(caplog)


def test_a_long_list_is_cut(photo_folder, caplog):
    for number in range(15):
        shutil.copy(photo_folder / "train" / "cat" / "1.jpg", photo_folder / "val" / "cat" / f"copy {number}.jpg")
    folder(photo_folder)
    assert "15 pictures are" in warnings(caplog)[0]
    assert "; and 5 more." in warnings(caplog)[0]


def test_data_sets_of_ones_own_are_compared(photo_folder, caplog):
    train, val = (torchvision.datasets.ImageFolder(photo_folder / split) for split in ("train", "val"))
    wrap(train, selection=val, test=val)
    assert warnings(caplog)[0].startswith("6 pictures are in more than one split")
    caplog.clear()
    images, labels = torch.rand(12, 1, 4, 4), torch.arange(12) % 2
    wrap((images, labels))
    assert not warnings(caplog)
    wrap((images, labels), test=(images[3:5], labels[3:5]), selection=(images[:1] + 2, labels[:1]))
    assert "2 pictures are in more than one split" in warnings(caplog)[0]
    assert "train 3 = test 0; train 4 = test 1" in warnings(caplog)[0] or "test 0 = train 3" in warnings(caplog)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8])
def test_images_of_any_type_are_compared(dtype, caplog):
    images = (torch.rand(6, 1, 4, 4) * 200).to(dtype)
    wrap(
        (images, torch.zeros(6).long()),
        test=(images[:1], torch.zeros(1).long()),
        selection=(images[:1], torch.zeros(1).long()),
    )
    assert "pictures are in more than one split" in warnings(caplog)[0]
