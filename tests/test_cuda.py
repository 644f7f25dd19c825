"""On a GPU everything gives what it gives on the CPU, and the commands run there. Skipped where there is no GPU."""

import copy

import pytest
import torch

from advfool.data import InputFormat
from advfool.evaluation.attacks import pgd
from advfool.evaluation.noise import noise_curve
from advfool.foolings import Active, CenterMass, CompositeFooling, Location, TopK
from advfool.interpreters import LRP, GradCAM
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics import AOPC, ImageMean, aopc, spearman, ssim
from tests.helpers.command import SMALL, metrics_of, run, without_times
from tests.helpers.data import RandomData
from tests.helpers.interpreters import INTERPRETERS
from tests.helpers.networks import TINY, build_tiny
from tests.helpers.setups import make_setup

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


GPU = "trainer=gpu"


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Float32 convolutions in float32, not in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("network_name", TINY)
def test_heatmaps_and_gradients_are_those_of_the_cpu(network_name, name):
    network, layer = build_tiny(network_name)
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 7])
    found = []
    for device in ("cpu", "cuda"):
        network.to(device).zero_grad()
        maps = INTERPRETERS[name](layer)(network, images.to(device), targets.to(device))
        maps.square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        found.append((maps.detach().cpu(), gradient.cpu()))
    (maps, gradient), (maps_there, gradient_there) = found
    assert (maps - maps_there).abs().max() < 1e-9
    assert (gradient - gradient_there).norm() < 1e-9 * gradient.norm()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [False, True])
def test_networks_of_which_a_part_is_trained(memory_format, frozen):
    found = []
    for device in ("cpu", "cuda"):
        network, _ = build_tiny("resnet_tiny")
        network.to(device, memory_format=memory_format).requires_grad_(not frozen)
        network.layer3.requires_grad_(True)
        images = torch.randn(2, 3, 56, 56, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
        GradCAM("layer3.0")(network, images.to(memory_format=memory_format), 1).square().mean().backward()
        found.append(torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]))
    assert (found[0] - found[1]).norm() < 1e-9 * found[0].norm()


@pytest.mark.parametrize("fooling", [Location(), TopK(), CenterMass(), Active(c1=0, c2=1)])
def test_foolings_are_those_of_the_cpu(fooling):
    shape = (5, 2, 14, 14) if isinstance(fooling, CompositeFooling) else (5, 14, 14)
    maps, original = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    for measure in (fooling.penalty, fooling.test_loss):
        assert torch.allclose(measure(maps.cuda(), original.cuda()).cpu(), measure(maps, original), atol=1e-12)


def test_metrics_are_those_of_the_cpu():
    network, _ = build_tiny("resnet_tiny")
    images, maps = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.rand(3, 7, 7, dtype=torch.float64)
    targets, other = torch.tensor([1, 2, 3]), torch.rand(3, 7, 7, dtype=torch.float64)
    for metric in (spearman, ssim):
        assert torch.allclose(metric(maps.cuda(), other.cuda()).cpu(), metric(maps, other), atol=1e-9)
    options = {"steps": 8, "region": 8}
    expected = aopc(network, images, targets, maps, **options)
    network.cuda()
    there = aopc(network, images.cuda(), targets.cuda(), maps.cuda(), **options)
    assert torch.allclose(there.cpu(), expected, atol=1e-9)  # the noise is the same, too
    for metric, arguments in (
        (AOPC(**options).cuda(), (network, images.cuda(), targets.cuda(), maps.cuda())),
        (ImageMean("spearman").cuda(), (maps.cuda(), other.cuda())),
    ):
        metric.update(*arguments)
        assert metric.compute().device.type == "cuda"


def test_attacks_and_noise_are_those_of_the_cpu():
    network, layer = build_tiny("resnet_tiny")
    form = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)
    images, labels = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 2, 3])
    attack = {"epsilon": 0.02, "step": 0.005, "steps": 4, "restarts": 2}
    there = pgd(copy.deepcopy(network).cuda(), images.cuda(), labels.cuda(), form, **attack)
    assert (there.cpu() - pgd(network, images, labels, form, **attack)).abs().max() < 1e-9

    network, manipulated = network.float(), copy.deepcopy(network)
    setup = make_setup(network, GradCAM(layer), Location(), RandomData())
    here = noise_curve(setup, manipulated, (0, 0.2))
    network.cuda()
    there = noise_curve(setup, manipulated.cuda(), (0, 0.2))
    for name, curve in here.items():
        assert torch.equal(curve.accuracy, there[name].accuracy)
        assert torch.equal(curve.fsr, there[name].fsr)


@pytest.mark.parametrize("reader", [GradCAM("layer3.1"), LRP("layer3.1")])
def test_half_precision_is_near(reader):
    network, _ = build_tiny("resnet_tiny", torch.float32)
    network.cuda()
    images, targets = torch.randn(4, 3, 56, 56).cuda(), torch.tensor([0, 1, 2, 3]).cuda()
    exact = reader(network, images, targets)
    with torch.autocast("cuda", torch.bfloat16):
        near = read_maps(reader, record(network, images, [reader]), targets)
    assert near.isfinite().all()
    assert spearman(near, exact).mean() > 0.9


STEPS = ["trainer.max_steps=6", "trainer.val_check_interval=3", "pictures=2"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["interp=lrp_t", "fooling=topk", "cache_original=false", "trainer.precision=bf16-mixed"],
        ["fooling=active", "interp=lrp_t", "fooling.train=16", "fooling.test=8"],
        ["attack=free", "preserve=cross_entropy", "interp=simplegrad"],
        [f"callbacks.{name}.every_n_validations=1" for name in ("map_metrics", "snapshots")],
    ],
    ids=["default", "bf16", "active", "free", "looks"],
)
def test_a_run_there(tmp_path, options):
    done = run(tmp_path / "run", *SMALL, *STEPS, GPU, "aopc.images=4", "aopc.steps=4", *options)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["steps"] == 6
    assert (tmp_path / "run" / "heatmaps.png").stat().st_size > 0


def test_the_same_seed_gives_the_same_numbers_there(tmp_path):
    found = []
    for name in "ab":
        done = run(tmp_path / name, *SMALL, *STEPS, GPU, "interp=lrp_t", f"cache={tmp_path / 'cache'}")
        assert done.returncode == 0, done.stderr
        found.append(without_times(metrics_of(tmp_path / name)))
    assert found[0] == found[1]


def test_evaluation_there_is_that_of_the_cpu(tmp_path):
    done = run(tmp_path / "run", *SMALL, *STEPS)
    assert done.returncode == 0, done.stderr
    done = run(
        tmp_path / "there", f"run={tmp_path / 'run'}", GPU, "evaluate_with=[gradcam,lrp_t]", module="advfool.evaluate"
    )
    assert done.returncode == 0, done.stderr
    here, there = metrics_of(tmp_path / "run"), metrics_of(tmp_path / "there")
    assert here["accuracy"]["manipulated"] == there["accuracy"]["manipulated"]
    for key in ("test_loss", "spearman"):
        for interp in ("gradcam", "lrp_t"):
            assert there[key][interp] == pytest.approx(here[key][interp], abs=1e-3)
