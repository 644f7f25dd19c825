"""The numbers that a search compares runs by, against a loop over the selection images."""

import pytest
import torch

from advfool.data.composites import composite_splits
from advfool.data.samples import Sample, take
from advfool.evaluation.selection import measure_selection
from advfool.foolings import Active, CenterMass, Location
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.library.compare import measuring_trainer
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.sealed import sealed_test_images
from tests.helpers.setups import make_setup


@pytest.mark.parametrize("fooling", [Location(), CenterMass(), Active(interval=(-2, 0.1), c1=0, c2=1, test=5)])
def test_the_numbers_are_those_of_a_loop_over_the_selection_images(fooling):
    networks = build_tiny("resnet_tiny", torch.float32)[0], build_tiny("resnet_tiny", torch.float32)[0]
    layer = build_tiny("resnet_tiny", torch.float32)[1]
    with torch.no_grad():
        networks[1].fc.weight.add_(0.5 * torch.randn_like(networks[1].fc.weight))
    data, active = RandomData(counts=(60, 43, 12)), isinstance(fooling, Active)
    interp = GradCAM(layer, name="gradcam")
    with sealed_test_images():
        composites = composite_splits(data, (0, 1), 5, 5) if active else None
        setup = make_setup(networks[0], [interp, SimpleGrad(name="simplegrad")], fooling, data, composites)
        found = measure_selection(setup, networks[1], measuring_trainer("cpu", False))
    images = composites.selection if composites else data.selection()
    fooled: list = []
    for index in range(len(images)):
        sample = Sample(*(values[0] for values in take(images, [index])))
        classes = sample.label.tolist() if active else [int(sample.label)]
        before, after = (
            torch.cat([interp(net, sample.image[None], torch.tensor([c])) for c in classes]).detach()
            for net in networks
        )
        if active:
            before, after = before[None], after[None]  # one composite
        loss = fooling.test_loss(after, before).flatten().tolist()
        fooled.append([fooling.interval[0] <= value <= fooling.interval[1] for value in loss])
    rates = [sum(column) / len(fooled) for column in zip(*fooled, strict=True)]
    expected = dict(zip(("c1", "c2"), rates, strict=True)) if active else rates[0]
    assert found["fsr"] == {"gradcam": pytest.approx(expected)}
    singles = [Sample(*(values[0] for values in take(data.selection(), [index]))) for index in range(43)]
    for name, net in zip(("original", "manipulated"), networks, strict=True):
        right = [net(sample.image[None]).argmax().item() == sample.label.item() for sample in singles]
        assert found["accuracy"][name] == pytest.approx(sum(right) / 43)
    top1 = found["accuracy"]
    assert top1["drop"] == top1["original"] - top1["manipulated"]
    assert (found["n_images"], found["n_images_fsr"]) == (43, len(images))
