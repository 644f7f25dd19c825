"""Several processes give what one gives: gradients of a step, metrics of an evaluation, cells of a sweep."""

import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from advfool.data.samples import Sample
from advfool.foolings import Active, CenterMass, CompositeFooling, Location, TopK
from advfool.library.interpreters import named_interpreter
from advfool.training.module import FoolingModule
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import SMALL, metrics_of, run
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_module

TRAINABLE = ("gradcam", "gradcam_pp", "layercam", "hirescam", "lrp", "lrp_t", "simplegrad", "simplegrad_t")


TRAINABLE += ("ig", "ig_t", "guided_backprop")  # smoothgrad draws fresh noise in each process


LIMITS = {torch.float64: 1e-9, torch.float32: 1e-5}


class Step(torch.nn.Module):
    """A training step as the forward pass that DistributedDataParallel wraps."""

    def __init__(self, module: FoolingModule) -> None:
        super().__init__()
        self.module = module
        module.log_dict = lambda values: None

    def forward(self, batch):
        return self.module.training_step(batch, 0)


def step(interp: str, fooling, dtype: torch.dtype) -> Step:
    network, layer = build_tiny("resnet_tiny", dtype)
    original, _ = build_tiny("resnet_tiny", dtype)
    settings = {"layer": layer} if interp.endswith("_t") or "cam" in interp else {}
    interpreter = named_interpreter(interp, network.float(), (3, 56, 56), **settings)
    preserve = Distillation() if fooling.needs_original else CrossEntropy()
    options = {"preserve": preserve, "optimizer": partial(torch.optim.Adam, lr=1e-3)}
    return Step(make_module(original, interpreter, fooling, network, **options).to(dtype))


def batch(dtype: torch.dtype, fooling, part: slice = slice(None)) -> Sample | dict[str, Sample]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(8, 3, 56, 56, dtype=dtype, generator=generator)[part]
    numbers = torch.arange(8)[part]
    plain = Sample(images, numbers, numbers, torch.zeros(len(numbers), 4))
    if not isinstance(fooling, CompositeFooling):
        return plain
    pairs = torch.tensor([3, 8]).expand(len(numbers), 2)
    return {"images": plain, "composites": Sample(images.flip(3), pairs, numbers, torch.zeros(len(numbers), 2, 2, 4))}


def gradients(step, batch) -> torch.Tensor:
    step(batch).backward()
    inner = step.module.module if isinstance(step, DistributedDataParallel) else step.module
    return torch.cat([p.grad.flatten() for p in inner.network.parameters()])


CASES = [(interp, Location(), dtype) for interp in TRAINABLE for dtype in LIMITS]


CASES += [("gradcam", fooling, torch.float64) for fooling in (TopK(), CenterMass(), Active())]


def _worker(rank: int, port: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = []
    for interp, fooling, dtype in CASES:
        parts = batch(dtype, fooling, slice(rank, None, 2))
        found.append(gradients(DistributedDataParallel(step(interp, fooling, dtype)), parts))
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    multiprocessing.spawn(_worker, (29500 + hash(str(folder)) % 2000, str(folder)), nprocs=2)
    return torch.load(folder / "gradients.pt", weights_only=True)


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{i}-{f.name or type(f).__name__}-{d}" for i, f, d in CASES])
def test_a_step_of_two_processes_has_the_gradient_of_the_doubled_batch(of_two_processes, case):
    interp, fooling, dtype = CASES[case]
    alone = gradients(step(interp, fooling, dtype), batch(dtype, fooling))
    together = of_two_processes[case]
    assert alone.abs().max() > 0
    assert (alone - together).abs().max() <= LIMITS[dtype] * alone.abs().max()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    options = ["trainer.max_steps=8", "trainer.val_check_interval=4", "optimizer.lr=1e-3", "scheduler=null"]
    options += ["fooling=topk", "train_target_top=null", "pictures=0", "evaluate_with=[]", "aopc.images=0"]
    result = run(folder, *SMALL, *options)
    assert result.returncode == 0, result.stderr
    return folder


def differences(one: object, other: object, place: str = "") -> list[tuple[str, float]]:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        return [found for key in one for found in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list):
        assert len(one) == len(other), place
        return [found for x, y in zip(one, other, strict=True) for found in differences(x, y, place)]
    if isinstance(one, float) and isinstance(other, float):
        return [(place, abs(one - other))]
    assert one == other, place
    return []


@pytest.mark.parametrize("processes", [2, 3])
def test_an_evaluation_counts_every_image_once(trained, tmp_path, processes):
    """70 test images and 11 with AOPC curves, neither a multiple of 3; 70 is one of 2, so 67 are measured there."""
    options = [f"run={trained}", "evaluate_with=[gradcam,lrp_t]", "aopc.images=11", "aopc.steps=6", "fsr_images=67"]
    options += ["data.eval_batch_size=8", "pictures=0"]
    results = {}
    for name, extra in {
        "one": [],
        "many": ["trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"],
    }.items():
        done = run(tmp_path / name, *options, *extra, module="advfool.evaluate")
        assert done.returncode == 0, done.stderr
        results[name] = metrics_of(tmp_path / name)
    assert results["many"]["n_images"] == 70
    assert results["many"]["n_images_fsr"] == 67
    far = {place: value for place, value in differences(results["one"], results["many"]) if value > 1e-5}
    assert far == {}


def test_a_sweep_with_several_processes_runs_every_cell_once_on_all_of_them(tmp_path):
    options = [*SMALL, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_steps=2"]
    options += ["pictures=0", "aopc.images=0", "evaluate_with=[]", f"hydra.sweep.dir={tmp_path}"]
    command = [sys.executable, "-m", "advfool.train", "-m", *options, "seed=0,1", "data.limit_val=7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = sorted(tmp_path.glob("*/metrics.json"))
    assert len(cells) == 2
    seeds = set()
    for path in cells:
        metrics = json.loads(path.read_text())
        assert metrics["steps"] == 2
        assert metrics["n_images"] == 70
        seeds.add(metrics["seed"])
    assert seeds == {0, 1}
    assert done.stdout.count("Top-1 drop") == 2  # one process of each cell reports


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_cells_of_a_sweep_can_be_launched_elsewhere(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    options = [*SMALL, "trainer.max_steps=1", "pictures=0", "aopc.images=0", "evaluate_with=[]"]
    command = [sys.executable, "-m", "advfool.train", "-m", f"launcher={launcher}", *options, "seed=0,1"]
    done = subprocess.run([*command, f"hydra.sweep.dir={tmp_path}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*/metrics.json"))) == 2


def test_more_processes_than_images_are_refused(monkeypatch, tmp_path):
    from advfool.data import DigitsModule, InputFormat

    data = DigitsModule(InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3), str(tmp_path), limit_test=2)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    with pytest.raises(AdvfoolError, match="3 processes cannot share 2 images to measure on"):
        data.test_dataloader()


def test_active_steps_of_two_kinds_of_batches_run_under_ddp(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = [*SMALL, "fooling=active", "train_target_top=null", "fooling.train=16", "fooling.test=9"]
    options += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_steps=2", "pictures=0"]
    options += [f"cache={tmp_path / 'cache'}", f"data.cache={Path('~/.cache/advfool').expanduser()}"]
    done = run(tmp_path / "run", *options, "data.limit_train=null", "data.limit_test=null", "evaluate_with=[]")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["n_images_fsr"] == 9
    assert set(metrics["fsr"]["gradcam"]) == {"c1", "c2"}
    kept = [path for path in (tmp_path / "cache" / "original").iterdir() if path.is_dir()]
    assert len(kept) == 1  # the original's maps of the composites, computed by one process for both
