"""What heatmaps and fooling steps cost, as ratios measured in one run.

Heatmaps are multiples of one forward pass, beside zennit, captum and pytorch-grad-cam; steps (forward, backward,
Adam) are multiples of a plain fine-tuning step, in time and in peak memory. All kinds of a table take turns, each in
every round; a time is the median of its rounds.

    python benchmarks/costs.py                    CPU, vgg19, resnet50 and densenet121 at 224, batch 4
    python benchmarks/costs.py --arch resnet50 --rounds 12 --device cuda
"""

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import captum.attr
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import LayerGradCam, Saliency
from pytorch_grad_cam import GradCAM as PytorchGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from advfool.foolings import Location
from advfool.interpreters import LRP, GradCAM, Interpreter, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.runtime import keep_freed_memory

LAYERS = {"vgg19": "features.34", "resnet50": "layer4.2", "densenet121": "features.denseblock4.denselayer16"}
LIMITS = {  # to stay below: (heatmap in forwards, step in plain steps)
    "gradcam": (None, {"vgg19": 1.2, "resnet50": 1.1, "densenet121": 1.1}),
    "lrp_t": (None, {"vgg19": 1.35, "resnet50": 1.25, "densenet121": 1.25}),
    "simplegrad": (None, {"resnet50": 2.4, "densenet121": 2.4}),
    "lrp": (3.5, {"resnet50": 3.6, "densenet121": 3.6}),
}


def interpreters(arch: str, training: bool = False) -> dict[str, Interpreter]:
    layer = LAYERS[arch]
    found = {
        "gradcam": GradCAM(layer, training_leak=0.1),
        "lrp_t": LRP(layer, training_leak=0.1),
        "simplegrad": SimpleGrad(),
        "lrp": LRP(),
    }
    return {name: interp.for_training() if training else interp for name, interp in found.items()}


class Bench:
    """A network with images, and everything that can be timed on it, by name."""

    def __init__(self, arch: str, batch: int, size: int, device: str) -> None:
        torch.manual_seed(0)
        self.arch, self.device = arch, torch.device(device)
        self.network = torchvision.models.get_model(arch).eval().to(self.device)
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        self.labels = torch.randint(1000, (batch,), device=self.device)

    def heatmaps(self) -> dict[str, Callable[[], object]]:
        ours = {name: self._ours(interp) for name, interp in interpreters(self.arch).items()}
        return {"forward": self._forward, **ours, **self._shared(), **self._peers()}

    def steps(self) -> dict[str, Callable[[], object]]:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-6)

        def step(interp: Interpreter | None) -> Callable[[], None]:
            def run() -> None:
                recording = record(self.network, self.images, [interp] if interp else [])
                loss = F.cross_entropy(recording.logits, self.labels)
                if interp:
                    loss = loss + Location().penalty(interp.read(recording, self.labels)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            return run

        training = interpreters(self.arch, training=True)
        return {"plain": step(None), **{name: step(interp) for name, interp in training.items()}}

    @torch.no_grad()
    def _forward(self) -> Tensor:
        return self.network(self.images)

    def _ours(self, interp: Interpreter) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad():
                return interp(self.network, self.images, self.labels)

        return run

    def _shared(self) -> dict[str, Callable[[], object]]:
        readers = [interpreters(self.arch)[name] for name in ("gradcam", "simplegrad")]

        def one_pass() -> list[Tensor]:
            with torch.no_grad():
                recording = record(self.network, self.images, readers)
                return [recording.logits, *(reader.read(recording, self.labels) for reader in readers)]

        def three_passes() -> list[Tensor]:
            with torch.no_grad():
                return [self._forward(), *(reader(self.network, self.images, self.labels) for reader in readers)]

        return {"one pass": one_pass, "three passes": three_passes}

    def _peers(self) -> dict[str, Callable[[], object]]:
        plain = torchvision.models.get_model(self.arch).eval().to(self.device)
        plain.load_state_dict(self.network.state_dict())
        for module in plain.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        layer = plain.get_submodule(LAYERS[self.arch])
        peers: dict[str, Callable[[], object]] = {"captum simplegrad": lambda: self._saliency(plain)}
        if self.arch != "densenet121":  # theirs cannot take the list that a dense layer is given
            cam = LayerGradCam(plain, layer)
            peers["captum gradcam"] = lambda: cam.attribute(self.images, self.labels, attribute_to_layer_input=True)
            canonizer = VGGCanonizer() if self.arch == "vgg19" else ResNetCanonizer()
            composite = EpsilonPlus(epsilon=0.01, canonizers=[canonizer])
            peers["zennit lrp"] = lambda: self._zennit(plain, composite)
        oracle = PytorchGradCAM(model=plain, target_layers=[layer])
        targets = [ClassifierOutputTarget(label) for label in self.labels.tolist()]
        peers["pytorch-grad-cam gradcam"] = lambda: oracle(self.images, targets)
        if self.arch != "densenet121":
            lrp = captum.attr.LRP(plain)
            peers["captum lrp"] = lambda: lrp.attribute(self.images.clone(), self.labels)
        return peers

    def _saliency(self, network: nn.Module) -> Tensor:
        return Saliency(network).attribute(self.images.clone(), self.labels)

    def _zennit(self, network: nn.Module, composite: EpsilonPlus) -> Tensor:
        with Gradient(model=network, composite=composite) as attribute:
            return attribute(self.images.clone(), lambda logits: logits * F.one_hot(self.labels, logits.shape[1]))[1]


def medians(kinds: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each kind, the kinds taking turns after two rounds of warming up."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(rounds + 2):
        for kind, run in kinds.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if turn >= 2:
                times[kind].append(time.perf_counter() - start)
    return {kind: statistics.median(values) for kind, values in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_mebibytes(arch: str, batch: int, size: int, device: str, kind: str) -> float:
    """Peak memory of three steps in a fresh process, above what it holds before them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (arch, batch, size, device, kind))


def _peak(arch: str, batch: int, size: int, device: str, kind: str) -> float:
    before = _kibibytes("VmRSS")
    step = Bench(arch, batch, size, device).steps()[kind]
    for _ in range(3):
        step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return (_kibibytes("VmHWM") - before) / 1024


def _kibibytes(field: str) -> int:
    """A line of Linux's /proc/self/status; unlike getrusage's maximum it starts anew with the process."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if field in line)


def heatmap_table(bench: Bench, rounds: int) -> Table:
    seconds = medians(bench.heatmaps(), rounds, bench.device)
    table = Table("heatmaps", "seconds", "forwards", "limit", title=f"{bench.arch}: one batch of heatmaps")
    for kind, value in seconds.items():
        limit = LIMITS.get(kind, (None,))[0]
        table.add_row(kind, f"{value:.4f}", f"{value / seconds['forward']:.2f}", f"{limit or ''}")
    table.caption = f"three passes over one: {seconds['three passes'] / seconds['one pass']:.2f}"
    if "zennit lrp" in seconds:
        table.caption += f"; zennit's lrp over ours: {seconds['zennit lrp'] / seconds['lrp']:.2f}"
    return table


def step_table(bench: Bench, rounds: int, memory: Callable[[str], float]) -> Table:
    seconds = medians(bench.steps(), rounds, bench.device)
    peak = {kind: memory(kind) for kind in seconds}
    table = Table("step", "seconds", "plain steps", "limit", "MiB", "plain", title=f"{bench.arch}: one Location step")
    for kind, value in seconds.items():
        limit = LIMITS.get(kind, (None, {}))[1].get(bench.arch, "")
        ratios = f"{value / seconds['plain']:.2f}", f"{limit}", f"{peak[kind]:.0f}", f"{peak[kind] / peak['plain']:.2f}"
        table.add_row(kind, f"{value:.4f}", *ratios)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    keep_freed_memory()
    warnings.simplefilter("ignore")

    console = Console()
    console.print(f"batch {args.batch} at {args.size}, {args.device}, torch {torch.__version__}")
    for arch in args.arch:
        shape = (arch, args.batch, args.size, args.device)
        console.print(heatmap_table(Bench(*shape), args.rounds))
        console.print(step_table(Bench(*shape), args.rounds, lambda kind, shape=shape: peak_mebibytes(*shape, kind)))


if __name__ == "__main__":
    main()
