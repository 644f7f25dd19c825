"""A data set of a user's own, prepared for a network: split, with a class for each output, and with labels."""

from collections.abc import Callable, Hashable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from advfool.data.base import DataModule
from advfool.data.samples import Sample, Samples, take
from advfool.data.wrapped import WrappedModule, wrap
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied, refuse_script
from advfool.utilities.outputs import select_logits

AT_A_TIME = 64  # images that are labelled together


def prepare_data(
    network: nn.Module,
    dataset: object,
    selection: object = None,
    test: object = None,
    groups: Sequence[Hashable] | Int[Tensor, "n"] | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
) -> DataModule:
    """Make a data module of a data set for a network.

    Args:
        network: in eval mode; its number of outputs is the number of classes.
        dataset: see `advfool.data.wrap`.
        selection: see `advfool.data.wrap`.
        test: see `advfool.data.wrap`.
        groups: see `advfool.data.wrap`.
        classes: names of the network's outputs; None: their numbers.
        seed: of the split and of the order of the training images.
        batch_size: training images in a batch.
        workers: processes that load images; 0 to load in the main process.

    Returns:
        the data module. Without labels of their own, images are labelled with what the network predicts.

    Raises:
        AdvfoolError: the data set does not fit the network.
    """
    sizes = {"batch_size": batch_size, "eval_batch_size": 2 * batch_size, "workers": workers}
    data = wrap(dataset, selection, test, groups, seed, classes=classes, **sizes)  # type: ignore[arg-type]
    outputs = _outputs(network, data)
    if isinstance(data, WrappedModule) and data is not dataset and classes is None:
        data = data.with_classes(outputs)
    if len(data.classes) != outputs:
        raise AdvfoolError(
            f"The network has {outputs} outputs, but the data have {len(data.classes)} classes. Give a name for each "
            "output (classes=[...]), or a network for these classes."
        )
    return data if data.has_labels else PredictedLabels(data, network)


def _outputs(network: nn.Module, data: DataModule) -> int:
    batch = _for_network(network, take(data.train(), [0]).image)
    try:
        with torch.no_grad():
            logits = network(batch)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = "x".join(map(str, batch.shape[1:]))
        raise AdvfoolError(
            f"{type(network).__name__} cannot take images of {shape} (channels, height, width): {error}. "
            "Give images as the network takes them."
        ) from error
    if logits.shape[1] < 2:
        raise AdvfoolError(
            f"{type(network).__name__} returns one score for each image, which distinguishes no classes. Give a "
            "network with one output for each class, for example the scores of both answers."
        )
    return logits.shape[1]


def copy_of_classifier(network: nn.Module, output: str | int | None) -> nn.Module:
    """Copy a network in eval mode, and let the copy return its logits alone.

    Args:
        network: the network.
        output: see `advfool.fool`.

    Raises:
        AdvfoolError: it is no `nn.Module`, or cannot be copied.
    """
    if not isinstance(network, nn.Module):
        raise AdvfoolError(f"Expected the network as a torch.nn.Module, got {type(network).__name__}.")
    refuse_script(network)
    network = copied(network).eval()
    select_logits(network, output)
    return network


def _for_network(network: nn.Module, images: Tensor) -> Tensor:
    parameter = next(network.parameters(), None)
    return images if parameter is None else images.to(parameter)


class PredictedLabels(DataModule):
    """The images of another data module, labelled with what a network predicts; accuracy is then agreement with it.

    Args:
        data: the images.
        network: whose predictions become the labels, in eval mode.
    """

    def __init__(self, data: DataModule, network: nn.Module) -> None:
        super().__init__(data.batch_size, data.eval_batch_size, data.workers, data.seed, None)
        self.classes, self.labels, self.input, self.has_labels = data.classes, data.labels, data.input, False
        self.data, self.network = data, network
        self.splits: dict[str, Samples] = {}  # labelled when they are first used: test images at the end

    def train(self) -> Samples:
        return self._labelled("train", self.data.train)

    def selection(self) -> Samples:
        return self._labelled("selection", self.data.selection)

    def test(self) -> Samples:
        return self._labelled("test", self.data.test)

    def _labelled(self, split: str, of: Callable[[], Samples]) -> Samples:
        if split not in self.splits:
            samples = of()
            self.splits[split] = _Labelled(samples, _predictions(self.network, samples))
        return self.splits[split]


class _Labelled(Samples):
    """Samples with other labels."""

    def __init__(self, samples: Samples, labels: Int[Tensor, "n"]) -> None:
        self.samples, self.own, self.varies = samples, labels, samples.varies

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self) -> Int[Tensor, "n"]:
        return self.own

    def groups(self) -> Int[Tensor, "n *k"]:
        return self.samples.groups()

    def digest(self, indices: Sequence[int] | None = None) -> str:
        labels = self.own if indices is None else self.own[list(indices)]
        return f"{self.samples.digest(indices)} {labels.tolist()}"

    def path(self, index: int) -> str | None:
        return self.samples.path(index)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]._replace(label=self.own[index])

    def __getitems__(self, indices: list[int]) -> Sample:
        return take(self.samples, indices)._replace(label=self.own[indices])


@torch.no_grad()
def _predictions(network: nn.Module, samples: Samples) -> Int[Tensor, "n"]:
    found = []
    for start in range(0, len(samples), AT_A_TIME):
        images = take(samples, range(start, min(start + AT_A_TIME, len(samples)))).image
        found.append(network(_for_network(network, images)).argmax(dim=1).cpu())
    return torch.cat(found)
