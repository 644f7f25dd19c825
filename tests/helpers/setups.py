"""A `Setup` and a module to train, put together without a configuration."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from advfool.data.base import DataModule
from advfool.data.samples import Samples
from advfool.evaluation.setup import Settings, Setup
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.training.module import FoolingModule
from advfool.training.settings import Training


class Classes(DataModule):
    """A data module without images, where only the classes matter."""

    def __init__(self, count: int = 10) -> None:
        super().__init__(batch_size=8, eval_batch_size=8, workers=0, seed=0)
        self.classes = self.labels = tuple(map(str, range(count)))

    def train(self) -> Samples:
        raise NotImplementedError("There are no images.")

    selection = test = train


def make_setup(
    original: nn.Module,
    interpreters: Interpreter | Sequence[Interpreter],
    fooling: Fooling,
    data: DataModule | Any = None,
    composites: Any = None,
    **settings: Any,
) -> Setup:
    """Describe a run; without `data`, of ten classes and no images. settings: of `Settings`."""
    chosen = [interpreters] if isinstance(interpreters, Interpreter) else list(interpreters)
    named = {interp.name or type(interp).__name__.lower(): interp for interp in chosen}
    data = Classes() if data is None else data
    return Setup(data, original, named, fooling, Settings(**settings), composites)


def make_module(
    original: nn.Module,
    interpreters: Interpreter | Sequence[Interpreter],
    fooling: Fooling,
    network: nn.Module | None = None,
    target: str = "label",
    cached_original: Any = None,
    classes: int = 10,
    together: int = 1,
    **training: Any,
) -> FoolingModule:
    """Make the module to train; network: None for a copy of the original. training: of `Training`."""
    setup = replace(make_setup(original, interpreters, fooling, Classes(classes), target=target), together=together)
    module = FoolingModule(setup, Training(**training), copy.deepcopy(original) if network is None else network)
    module.cached_original = cached_original or {}
    return module
