"""The images that a run keeps with both networks' heatmaps."""

import pyarrow.parquet as pq
import pytest
import torch

from advfool.data.composites import CompositeSplits
from advfool.data.samples import InputFormat, Sample, Samples, take
from advfool.evaluation.examples import choose, read_examples, write_examples
from advfool.foolings import Active, Location
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.utilities.files import EXAMPLES
from tests.helpers.command import SMALL, run
from tests.helpers.data import HALF, RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

INTERVAL = (0.0, 0.2)


def table(losses, name="test_loss/gradcam/manipulated"):
    return {"index": 10 + torch.arange(len(losses)), name: torch.tensor(losses)}


def with_role(chosen, role):
    return [index for index, roles in chosen.items() if role in roles]


def test_the_best_the_median_and_the_worst_are_kept():
    losses = [0.1 * i for i in range(11)]
    chosen = choose(table(losses), "gradcam", INTERVAL, 30, large=False)
    assert with_role(chosen, "best") == [10, 11, 12]
    assert sorted(with_role(chosen, "median")) == [14, 15, 16]
    assert sorted(with_role(chosen, "worst")) == [18, 19, 20]
    chosen = choose(table(losses), "gradcam", (0.1, 1), 30, large=True)  # centre of mass: far is good
    assert (with_role(chosen, "best"), with_role(chosen, "median"), with_role(chosen, "worst")) == ([20], [15], [10])


def test_degenerate_maps_are_the_worst_whatever_the_direction():
    losses = [0.0, torch.nan, 0.5, 0.9, 1.0]
    for interval in (INTERVAL, (0.1, 1)):
        assert with_role(choose(table(losses), "gradcam", interval, 5, large=True), "worst") == [11]


def test_the_fixed_images_do_not_depend_on_the_run():
    first, second = (choose(table(torch.rand(40).tolist()), "gradcam", INTERVAL, 50, large=False) for _ in range(2))
    assert set(with_role(first, "fixed")) == set(with_role(second, "fixed"))
    assert len(with_role(first, "fixed")) == 4


def test_composites_rank_by_the_mean_of_both_classes_and_images_can_have_two_roles():
    losses = table([0.9, 0.1, 0.5], "test_loss/gradcam/manipulated/c1")
    losses["test_loss/gradcam/manipulated/c2"] = torch.tensor([0.0, 0.1, 0.7])
    chosen = choose(losses, "gradcam", (0.5, 2), 3, large=True)
    assert with_role(chosen, "best") == [12]
    assert with_role(chosen, "worst") == [11]
    assert choose(table([0.3]), "gradcam", INTERVAL, 1, large=True)[10] == ["best", "median", "worst"]


class Noise(Samples):
    def __init__(self, count, size, classes=None):
        self.images, self.classes = torch.randn(count, 3, size, size), classes

    def __len__(self):
        return len(self.images)

    def labels(self):
        return torch.tensor(self.classes or 4).expand(len(self), *([2] if self.classes else []))

    def digest(self, indices=None):
        return ""

    def path(self, index):
        return f"{index}.jpg"

    def __getitem__(self, index):
        label = self.labels()[index]
        return Sample(self.images[index], label, torch.tensor(index), torch.zeros(*label.shape, 4))


class NoiseData(RandomData):
    """The test images are `images`."""

    labels = tuple(f"digit {c}" for c in range(10))

    def __init__(self, images):
        super().__init__()
        size = images.images.shape[-1]
        self.images, self.input = images, InputFormat(size, size, HALF, (0.25,) * 3)

    def test(self):
        return self.images


def keep(folder, data, fooling, target="label"):
    networks = {name: build_tiny("resnet_tiny", torch.float32)[0] for name in ("original", "manipulated")}
    with torch.no_grad():
        for parameter in networks["manipulated"].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    readers = [GradCAM("layer3.1", name="gradcam"), SimpleGrad(name="simplegrad")]
    explained = {"index": torch.arange(len(data))}
    for end in ("/c1", "/c2") if data.classes else ("",):
        explained[f"test_loss/gradcam/manipulated{end}"] = torch.rand(len(data))
    module, composites = NoiseData(data), CompositeSplits(data, data, data) if data.classes else None
    setup = make_setup(networks["original"], readers, fooling, module, composites, target=target)
    write_examples(folder, setup, networks["manipulated"], explained)
    return networks, readers, module.input


def test_maps_and_losses_are_those_of_the_images_that_are_kept(tmp_path):
    data = Noise(20, 56)
    networks, readers, form = keep(tmp_path, data, Location(interval=INTERVAL))
    kept = read_examples(tmp_path)
    indices = [row.index for row in kept.rows]
    batch = take(data, indices)
    assert torch.equal(kept.images, (form.pixels(batch.image) * 255).round().to(torch.uint8))
    assert kept.interps == ("gradcam", "simplegrad")
    assert kept.maps["gradcam", "original"].shape == (len(indices), 1, 7, 7)
    assert kept.maps["simplegrad", "manipulated"].dtype == torch.float16
    for name, network in networks.items():
        for reader in readers:
            maps = reader(network, batch.image, batch.label).detach()
            torch.testing.assert_close(kept.maps[reader.name, name][:, 0].float(), maps, atol=1e-3, rtol=1e-3)
            losses = Location(interval=INTERVAL).test_loss(maps)
            torch.testing.assert_close(kept.test_loss[reader.name, name][:, 0], losses, equal_nan=True)
        predictions = network(batch.image).argmax(dim=1).tolist()
        assert [row.predictions[name][0] for row in kept.rows] == [f"digit {c}" for c in predictions]
    assert kept.rows[0].path == f"{indices[0]}.jpg"
    assert (kept.rows[0].kind, kept.rows[0].label, kept.rows[0].explained) == ("image", "digit 4", ("digit 4",))


def test_composites_keep_the_maps_of_both_classes(tmp_path):
    keep(tmp_path, Noise(6, 56, [3, 8]), Active(interval=(0.5, 2)))
    kept = read_examples(tmp_path)
    assert kept.maps["gradcam", "manipulated"].shape[1:] == (2, 7, 7)
    assert kept.test_loss["gradcam", "manipulated"].shape == (len(kept.rows), 2)
    assert (kept.rows[0].kind, kept.rows[0].explained) == ("composite", ("digit 3", "digit 8"))
    assert kept.rows[0].label == "digit 3 and digit 8"


def test_the_predicted_class_can_be_explained(tmp_path):
    keep(tmp_path, Noise(9, 56), Location(interval=INTERVAL), target="predicted")
    for row in read_examples(tmp_path).rows:
        assert row.explained == (row.predictions["original"][0],)


def test_a_file_of_large_images_stays_below_a_megabyte_besides_maps_at_the_images(tmp_path):
    keep(tmp_path, Noise(12, 224), Location(interval=INTERVAL))
    kept = read_examples(tmp_path)
    assert 3 <= len(kept.rows) <= 6
    at_images = sum(kept.maps["simplegrad", name].nbytes for name in ("original", "manipulated"))
    assert (tmp_path / EXAMPLES).stat().st_size - at_images < 1_000_000


@pytest.mark.parametrize("content", [b"", b"\x10", b"\x02\0\0\0\0\0\0\0{}", None])
def test_what_is_missing_or_was_cut_off_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / EXAMPLES).write_bytes(content)
    assert read_examples(tmp_path) is None


def test_a_cut_file_is_none(tmp_path):
    keep(tmp_path, Noise(5, 56), Location(interval=INTERVAL))
    whole = (tmp_path / EXAMPLES).read_bytes()
    for share in (0.01, 0.5, 0.99):
        (tmp_path / EXAMPLES).write_bytes(whole[: int(share * len(whole))])
        assert read_examples(tmp_path) is None


def test_a_run_keeps_examples(tmp_path):
    result = run(tmp_path, *SMALL, "trainer.max_steps=1", "pictures=0", "callbacks.progress=null")
    assert result.returncode == 0, result.stderr
    kept = read_examples(tmp_path)
    assert {role for row in kept.rows for role in row.roles} == {"best", "median", "worst", "fixed"}
    assert len(kept.rows) <= 13
    assert (tmp_path / EXAMPLES).stat().st_size < 200_000
    measured = pq.read_table(tmp_path / "per_image.parquet").to_pylist()
    for place, row in enumerate(kept.rows):
        for interp in kept.interps:
            loss = kept.test_loss[interp, "manipulated"][place, 0].item()
            expected = measured[row.index][f"test_loss/{interp}/manipulated"]
            assert loss == pytest.approx(expected, abs=1e-4, nan_ok=True)
