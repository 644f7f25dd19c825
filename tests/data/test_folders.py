"""Folders of photos: splits, names of classes, transforms, and what is wrong with a folder."""

import shutil

import pytest
import torch
import torchvision

from advfool.data import FolderModule, Imagenet, Imagenette, InputFormat
from advfool.data.imagenet import wnids
from advfool.utilities.errors import AdvfoolError
from tests.helpers.photos import make_photos

FORMAT = InputFormat(32, 40, (0.5,) * 3, (0.5,) * 3)


def module(root, cls=FolderModule, **options):
    return cls(FORMAT, str(root), workers=0, **options)


def paths(data):
    return {name: {path for path, _ in items} for name, items in data.items.items()}


def test_val_is_the_test_set_and_selection_comes_from_train(photo_folder):
    data = module(photo_folder)
    found = paths(data)
    assert found["test"] == set((photo_folder / "val").rglob("*.jpg"))
    assert found["train"] | found["selection"] == set((photo_folder / "train").rglob("*.jpg"))
    assert not found["train"] & found["selection"]
    assert found["selection"]
    assert data.classes == ("cat", "dog")


def test_a_test_folder_makes_val_the_selection(photo_folder):
    make_photos(photo_folder / "test" / "cat", 2)
    make_photos(photo_folder / "test" / "dog", 2)
    found = paths(module(photo_folder))
    assert found["selection"] == set((photo_folder / "val").rglob("*.jpg"))
    assert found["test"] == set((photo_folder / "test").rglob("*.jpg"))


def test_one_folder_is_split_over_images_by_the_seed(photo_folder):
    root = photo_folder / "train"
    one, again, other = (paths(module(root, val_fraction=0.5, seed=seed)) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one["test"]) == 6
    assert sum(map(len, one.values())) == 12 == len(set().union(*one.values()))


def test_wnid_folders_have_imagenet_indices(tmp_path):
    for split, names in (("train", wnids()[3:5]), ("val", wnids()[998:])):
        for name in names:
            make_photos(tmp_path / split / name, 2)
    data = module(tmp_path)
    assert data.classes == wnids()
    assert {label for _, label in data.items["test"]} == {998, 999}
    assert data.labels[0] == "tench"


def test_class_map_renames_folders(photo_folder):
    data = module(photo_folder, class_map={"cat": "n02123045", "dog": "n02085620"})
    assert data.classes == wnids()
    assert {label for _, label in data.items["test"]} == {281, 151}
    with pytest.raises(AdvfoolError, match="class_map names no class folder: cow"):
        module(photo_folder, class_map={"cow": "n02123045"})


@pytest.mark.parametrize("subset", ["balanced", "random"])
def test_limits_keep_a_seeded_subset(tmp_path, subset):
    make_photos(tmp_path / "train" / "cat", 20)
    make_photos(tmp_path / "train" / "dog", 4)
    make_photos(tmp_path / "val" / "cat", 2)
    make_photos(tmp_path / "val" / "dog", 2)
    options = {"subset": subset, "limit_train": 6, "limit_test": 2}
    data, again = module(tmp_path, **options), module(tmp_path, **options)
    assert data.items == again.items
    assert len(data.items["train"]) == 6
    if subset == "balanced":
        labels = [label for _, label in data.items["train"]]
        assert abs(labels.count(0) - labels.count(1)) <= 1
        assert sorted(label for _, label in data.items["test"]) == [0, 1]
    assert module(tmp_path, **options | {"seed": 5}).items["train"] != data.items["train"]


def test_samples_are_normalised_and_training_ones_augmented(photo_folder):
    data = module(photo_folder)
    sample = data.test()[1]
    assert sample.image.shape == (3, 32, 32)
    assert sample.image.dtype == torch.float32
    assert sample.image.min() >= -1
    assert (sample.label, sample.index, sample.box.tolist()) == (0, 1, [-1] * 4)
    assert torch.equal(data.test()[1].image, sample.image)
    assert not torch.equal(data.train()[0].image, data.train()[0].image)
    plain = module(photo_folder, augment=False)
    assert torch.equal(plain.train()[0].image, plain.train()[0].image)
    batch = next(iter(data.test_dataloader()))
    assert batch.image.shape == (6, 3, 32, 32)


def test_test_transform_is_torchvisions_preset(photo_folder):
    from PIL import Image

    from advfool.data.folders import test_transform

    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    image = Image.open(photo_folder / "val" / "cat" / "0.jpg").resize((300, 280))
    ours = test_transform(InputFormat(224, 256, preset.mean, preset.std))(image)
    torch.testing.assert_close(ours, preset(image), atol=2e-2, rtol=0)  # one grey level: the preset resizes floats


def test_missing_imagenet_says_what_to_do(tmp_path):
    with pytest.raises(AdvfoolError) as error:
        module(tmp_path / "imagenet", Imagenet)
    assert str(error.value) == (
        f"No images: the folder '{tmp_path}/imagenet' (data.root) does not exist. Expected: train/WNID/*.JPEG and "
        "val/WNID/*.JPEG (torchvision's ImageNet layout), a folder for each class. Give ImageNet's folder: "
        "data.root=/path/to/imagenet (or set IMAGENET_ROOT). Without ImageNet, use data=imagenette, which downloads ten "
        "of its classes (about 100 MB)."
    )


def test_imagenet_has_train_and_val(photo_folder):
    with pytest.raises(AdvfoolError, match=r"has no folder 'train'\. Expected: train/WNID"):
        module(photo_folder / "train", Imagenet)


def test_half_a_folder(photo_folder):
    shutil.rmtree(photo_folder / "val")
    with pytest.raises(AdvfoolError, match=r"has no folder 'val'\. Expected: train/CLASS"):
        module(photo_folder)


def test_an_empty_class_folder(photo_folder):
    (photo_folder / "train" / "emu").mkdir()
    with pytest.raises(AdvfoolError, match=r"The class folder '.*/train/emu' holds no images"):
        module(photo_folder)


def test_no_class_folders(tmp_path):
    make_photos(tmp_path / "flat", 2)
    with pytest.raises(AdvfoolError, match="has no class folders"):
        module(tmp_path / "flat")


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named_before_the_start(photo_folder, content):
    path = photo_folder / "train" / "cat" / "3.jpg"
    path.write_bytes(content if content is not None else path.read_bytes()[:600])
    with pytest.raises(AdvfoolError, match=f"Cannot read the image '{path}'"):
        module(photo_folder)


def test_an_unreadable_image_met_by_a_worker_is_a_plain_message(photo_folder):
    data = FolderModule(FORMAT, str(photo_folder), workers=1)
    path, _ = data.items["test"][0]
    path.write_bytes(b"broken since")
    with pytest.raises(AdvfoolError) as error:
        next(iter(data.test_dataloader()))
    assert str(error.value).startswith(f"Cannot read the image '{path}'")
    assert "Traceback" not in str(error.value)


def test_imagenette_maps_its_ten_classes_and_reports_a_failed_download(tmp_path, monkeypatch):
    root = tmp_path / "imagenette2-160"
    classes = sorted(torchvision.datasets.Imagenette._WNID_TO_CLASS)

    def download(self, root_path, split, size, download):  # the network alone is replaced
        for part in ("train", "val"):
            for wnid in classes:
                make_photos(root / part / wnid, 2)

    monkeypatch.setattr(torchvision.datasets.Imagenette, "__init__", download)
    data = module(tmp_path, Imagenette)
    assert {label for _, label in data.items["test"]} == {0, 217, 482, 491, 497, 566, 569, 571, 574, 701}

    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.Imagenette, "__init__", fail)
    with pytest.raises(AdvfoolError, match=r"Could not download Imagenette: no route to host\. Fetch https"):
        module(tmp_path / "elsewhere", Imagenette)


def test_numeric_folder_names_can_be_mapped(tmp_path):
    for split in ("train", "val"):
        make_photos(tmp_path / split / "0", 2)
        make_photos(tmp_path / split / "1", 2)
    data = module(tmp_path, class_map={0: "no", 1: "yes"})
    assert data.classes == ("no", "yes")


def test_bad_options(photo_folder):
    with pytest.raises(AdvfoolError, match="limit_test must be a whole number of at least 1, or None, got 0"):
        module(photo_folder, limit_test=0)
    with pytest.raises(AdvfoolError, match="size must be one of full, 320px, 160px, got '100px'"):
        module(photo_folder, Imagenette, size="100px")
    with pytest.raises(AdvfoolError, match="batch_size must be a whole number of at least 1, got 0"):
        module(photo_folder, batch_size=0)
    with pytest.raises(AdvfoolError, match="subset must be one of balanced, random, got 'all'"):
        module(photo_folder, subset="all")
    with pytest.raises(AdvfoolError, match="val_fraction must be a number above 0 and below 1, got 2"):
        module(photo_folder, val_fraction=2)
    for scale in ((0.5,), (0.9, 0.5), (0, 1), (0.5, 2), (float("nan"), 1)):
        with pytest.raises(AdvfoolError, match="crop_scale must be .smallest, largest. share"):
            module(photo_folder, crop_scale=scale)
    with pytest.raises(AdvfoolError, match="selection_limit must be a whole number of at least 1, got 0"):
        module(photo_folder, selection_limit=0)
    with pytest.raises(AdvfoolError, match="limit_train must be a whole number of at least 1, or None, got True"):
        module(photo_folder, limit_train=True)


def test_folders_named_like_splits_are_no_classes(tmp_path):
    for split in ("Training", "validation"):
        make_photos(tmp_path / split / "cat", 3)
    with pytest.raises(AdvfoolError, match="named like splits, not classes: Training, validation"):
        module(tmp_path)
