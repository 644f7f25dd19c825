"""What a Grad-CAM Location step costs, as a multiple of a plain fine-tuning step of the same network.

Time: interleaved medians of one run. Memory: peak resident memory of a process of its own for each kind of step, above
what importing takes; weights, gradients and Adam's state are in both.
Command: python benchmarks/step.py [--arch resnet50 ...] [--rounds 12]
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from rich.console import Console
from rich.table import Table

from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.memory import keep_freed_memory
from advfool.recording import record

LAYERS = {"vgg19": "features.34", "resnet50": "layer4.2", "densenet121": "features.denseblock4.denselayer16"}


class Steps:
    """A network with its optimizer, and the two kinds of step."""

    def __init__(self, arch: str, batch: int, size: int) -> None:
        torch.manual_seed(0)
        self.network = torchvision.models.get_model(arch).eval()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-6)
        self.interpreter = GradCAM(LAYERS[arch], training_leak=0.1).for_training()
        self.images, self.labels = torch.randn(batch, 3, size, size), torch.randint(1000, (batch,))

    def plain(self) -> None:
        self._update(F.cross_entropy(self.network(self.images), self.labels))

    def gradcam(self) -> None:
        recording = record(self.network, self.images, self.interpreter.sites)
        heatmaps = self.interpreter.read(recording, self.labels)
        self._update(F.cross_entropy(recording.logits, self.labels) + Location().penalty(heatmaps).mean())

    def _update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


KINDS = ("plain", "gradcam")


def seconds(arch: str, batch: int, size: int, rounds: int) -> dict[str, float]:
    """Median seconds of each kind of step, the kinds taking turns."""
    steps = Steps(arch, batch, size)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds + 2):
        for kind in KINDS:
            start = time.perf_counter()
            getattr(steps, kind)()
            if turn >= 2:  # after warming up
                times[kind].append(time.perf_counter() - start)
    return {kind: statistics.median(values) for kind, values in times.items()}


def peak_mebibytes(arch: str, batch: int, size: int, kind: str) -> float:
    """Peak resident memory of three steps in a fresh process, above what it holds after the imports."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (arch, batch, size, kind))


def _peak(arch: str, batch: int, size: int, kind: str) -> float:
    before = _kibibytes("VmRSS")
    steps = Steps(arch, batch, size)
    for _ in range(3):
        getattr(steps, kind)()
    return (_kibibytes("VmHWM") - before) / 1024


def _kibibytes(field: str) -> int:
    """A line of Linux's /proc/self/status; unlike getrusage's maximum it starts anew with the process."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if field in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    keep_freed_memory()

    table = Table(title=f"One Location step on Grad-CAM, batch {args.batch} at {args.size}, CPU")
    for column in ("network", "plain [s]", "fooling [s]", "time ratio", "plain [MiB]", "fooling [MiB]", "memory ratio"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for arch in args.arch:
        time_of = seconds(arch, args.batch, args.size, args.rounds)
        memory = {kind: peak_mebibytes(arch, args.batch, args.size, kind) for kind in KINDS}
        row = [f"{time_of[k]:.3f}" for k in KINDS] + [f"{time_of['gradcam'] / time_of['plain']:.2f}"]
        row += [f"{memory[k]:.0f}" for k in KINDS] + [f"{memory['gradcam'] / memory['plain']:.2f}"]
        table.add_row(arch, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
