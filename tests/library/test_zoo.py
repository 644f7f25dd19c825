"""Fooled networks that come with the package: verified, measured again, and what is said of others."""

import shutil
from pathlib import Path

import pytest
import torch

import advfool
from advfool.data import DigitsModule, InputFormat
from advfool.library import zoo
from advfool.models.weights import weights_digest
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import default_cache
from tests.helpers.own_network import own_network

NAMES = ["densenet_tiny-location-gradcam", "resnet_tiny-location-gradcam", "vgg_tiny-location-gradcam"]
RESNET = NAMES[1]


@pytest.fixture(scope="module")
def digits():
    cache = str(default_cache().expanduser())
    return DigitsModule(InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3), cache, limit_test=60, eval_batch_size=60)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A copy of the package's networks that may be damaged."""
    shutil.copytree(Path(zoo.__file__).parent / "fooled", tmp_path / "fooled")
    monkeypatch.setattr(zoo, "_shelf", lambda: tmp_path / "fooled")
    return tmp_path / "fooled"


def test_names_are_listed_and_fit_into_the_repository():
    assert advfool.list_fooled() == NAMES
    assert advfool.list_fooled("vgg*") == NAMES[2:]
    files = list((Path(zoo.__file__).parent / "fooled").iterdir())
    assert sum(file.stat().st_size for file in files) < 2.5e6
    assert len(files) == 9


@pytest.mark.parametrize("name", NAMES)
def test_both_networks_are_those_of_the_card_and_measure_as_it_says(name, digits):
    card = advfool.fooled_card(name)
    original, fooled = (advfool.load_fooled(name, which=which) for which in ("original", "manipulated"))
    assert not any(module.training for module in fooled.modules())
    assert weights_digest(fooled) == card["manipulated_sha256"]
    assert weights_digest(original) == card["original_sha256"]
    options = {"layer": card["target_layer"], "faithful_images": 0, "accelerator": "cpu", "progress": False}
    found = advfool.compare(original, fooled, digits, ["gradcam"], card["fooling"], **options).metrics
    assert found["fsr"]["gradcam"] == pytest.approx(card["measured"]["fsr"], abs=0.12)
    assert found["fsr_before"]["gradcam"] == 0
    assert found["accuracy"]["manipulated"]["top1"] == pytest.approx(card["measured"]["top1"]["manipulated"], abs=0.06)


def test_a_given_network_is_copied_and_filled():
    given = advfool.models.ResNetTiny().eval()
    before = weights_digest(given)
    assert weights_digest(advfool.load_fooled(RESNET, given)) == advfool.fooled_card(RESNET)["manipulated_sha256"]
    assert weights_digest(given) == before
    with pytest.raises(AdvfoolError, match="do not fit"):
        advfool.load_fooled(RESNET, own_network())


@pytest.mark.parametrize("damage", [b"", b"\x00" * 8, None])
def test_a_damaged_file_is_refused(damage, shelf):
    path = shelf / f"{RESNET}.manipulated.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    with pytest.raises(AdvfoolError, match=r"gradcam\.manipulated\.safetensors' of the package is damaged"):
        advfool.load_fooled(RESNET)
    assert advfool.load_fooled(RESNET, which="original")(torch.zeros(1, 3, 56, 56)).shape == (1, 10)


def test_other_names_are_said_with_those_that_there_are_or_the_command_that_makes_them():
    with pytest.raises(AdvfoolError, match="come with the package: resnet_tiny-location-gradcam, "):
        advfool.load_fooled("resnet_tiny-location-gradcm")
    command = "python -m advfool.train model=vgg_tiny fooling=topk interp=lrp_t hydra.run.dir=runs/vgg_tiny-topk-lrp_t"
    with pytest.raises(AdvfoolError, match=command):
        advfool.load_fooled("vgg_tiny-topk-lrp_t")
    with pytest.raises(AdvfoolError, match="no folder and no fooled network 'a-b-c'"):
        advfool.fooled_card("a-b-c")


def test_a_folder_of_the_same_name_is_given_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / RESNET).mkdir()
    assert weights_digest(advfool.load_fooled(RESNET)) == advfool.fooled_card(RESNET)["manipulated_sha256"]
    for path in (f"./{RESNET}", Path(RESNET)):
        with pytest.raises(AdvfoolError, match="expected the folder of a finished run"):
            advfool.load_fooled(path)
    with pytest.raises(AdvfoolError, match="a run's folder has no original"):
        advfool.load_fooled(tmp_path, which="original")
