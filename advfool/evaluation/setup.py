"""One typed description of a run: what is compared, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from advfool.data.base import DataModule
from advfool.data.composites import CompositeSplits
from advfool.data.samples import Samples
from advfool.evaluation.controls import Control
from advfool.evaluation.paired import Target
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.metrics.functional.faithfulness import check_replaced, region_of
from advfool.metrics.functional.regions import Replacement
from advfool.utilities.checking import check_fields
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Names, Seed, Share, Size, Text

JOINT = "+"  # between the names of interpreters that are attacked at once
Split = Literal["selection", "test"]  # what choices are made on, and what is measured once, at the end


@dataclass(frozen=True)
class AOPCSettings:
    """How AOPC curves are measured.

    Args:
        images: on so many of the explained images; 0: not at all.
        steps: regions that are replaced, one after the other.
        region: side of a region, in pixels.
        replacement: `uniform` (noise), `mean`, `blur` or `zero`.
        seed: of the noise and of the random order.
        interpreters: whose heatmaps give the order; None: the first interpreter's.
    """

    images: Size = 0
    steps: Count = 100
    region: Count = 9
    replacement: Replacement = "uniform"
    seed: Seed = 0
    interpreters: Names | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, size: Sequence[int], names: Sequence[str]) -> None:
        """Raise an AdvfoolError where the images or the interpreters do not allow these settings.

        Args:
            size: height and width of the images, in pixels.
            names: of the interpreters that are evaluated.
        """
        if [name for name in self.interpreters or [] if name not in names]:
            raise AdvfoolError(
                f"aopc.interpreters must be a list of those evaluated with ({', '.join(names)}), got "
                f"{self.interpreters}."
            )
        height, width = size
        cells = (height // self.region) * (width // self.region)
        if self.images and self.steps > cells:
            raise AdvfoolError(
                f"aopc.steps={self.steps}: an image of {height}x{width} has {cells} regions of {self.region}x"
                f"{self.region}. Use fewer steps or smaller regions (aopc.region=...)."
            )


@dataclass(frozen=True)
class AccuracySettings:
    """How the accuracy of the manipulated network is judged.

    Args:
        margin: the accuracy counts as kept where the 95 % interval of its drop lies below; as a fraction of 1.
    """

    margin: Share = 0.01

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class FaithfulnessSettings:
    """How it is measured whether heatmaps are faithful, see `advfool.metrics.faithfulness`.

    Args:
        images: on so many of the explained images; 0: not at all, and then there is no deceptive rate.
        random_orders: random orders that a faithful heatmap beats.
        steps: points of a curve after its first one.
        regions: number of regions that each step replaces.
        region: side of a region in pixels; None: an eighth of the image's shorter side.
        replacement: `blur`, `uniform` (noise), `mean` or `zero`.
        insertion: whether regions are put back instead of taken away.
        seed: of the random orders and of the noise.
    """

    images: Size = 64
    random_orders: Count = 8
    steps: Count = 8
    regions: Count = 2
    region: Count | None = None
    replacement: Replacement = "blur"
    insertion: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, size: Sequence[int]) -> None:
        """Raise an AdvfoolError where images of (height, width) pixels have fewer regions than are replaced."""
        if self.images:
            check_replaced(self.steps, self.regions, self.region or region_of(tuple(size)), tuple(size))


@dataclass(frozen=True)
class NullSettings:
    """Which controls say what the success rate would be without an attack.

    Args:
        controls: names of controls: `sharpened_4`, `sharpened_16` and `blurred` (of the original heatmap), `noise`,
            `another_image` (its heatmap) and `untrained`. `honest_finetune` and `independent` are computed wherever
            their networks are given.
        images: the deceptive rate of a control is measured on so many images.
        honest_finetune: file with the weights of a network that was fine-tuned without fooling; None: there is none.
        independent: file with the weights of a network of the same architecture that was trained with another seed.
    """

    controls: Sequence[Control] = ("sharpened_4", "sharpened_16", "blurred", "noise", "another_image", "untrained")
    images: Size = 64
    honest_finetune: Text | None = None
    independent: Text | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Settings:
    """How two networks are compared.

    Args:
        target: the class that is explained: `label`, or `predicted` (the original network's prediction).
        seed: of the choice of images and of the training.
        fsr_images: heatmaps are measured on so many random test images; None: on all.
        aopc: how AOPC curves are measured.
        faithfulness: how it is measured whether heatmaps are faithful.
        nulls: which controls are computed.
        pictures: test images that heatmaps.png shows; 0: no pictures.
        accuracy: how the accuracy is judged.

    Raises:
        AdvfoolError: a value is out of range.
    """

    target: Target = "label"
    seed: Seed = 0
    fsr_images: Count | None = 10000
    aopc: AOPCSettings = field(default_factory=AOPCSettings)
    faithfulness: FaithfulnessSettings = field(default_factory=FaithfulnessSettings)
    nulls: NullSettings = field(default_factory=NullSettings)
    pictures: Size = 8
    accuracy: AccuracySettings = field(default_factory=AccuracySettings)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Setup:
    """What a run is about, built and checked: every part fits the others.

    Args:
        data: the images, in three splits.
        original: the network before the fooling.
        interpreters: those to evaluate with, by name; those trained with come first.
        fooling: the penalty to train with and the test loss to measure with.
        settings: how the networks are compared.
        composites: of the two classes that an active fooling swaps; None for every other fooling.
        model: the network's name in tables.
        target_layer: the layer whose input the layer-wise interpreters explain; None where there is none.
        original_sha256: of the original network's weights.
        controls: networks whose heatmaps are controls: `honest_finetune` and `independent`, where they are at hand.
        together: so many of the first interpreters are attacked at once.
    """

    data: DataModule
    original: nn.Module
    interpreters: Mapping[str, Interpreter]
    fooling: Fooling
    settings: Settings = field(default_factory=Settings)
    composites: CompositeSplits | None = None
    model: str = "model"
    target_layer: str | None = None
    original_sha256: str = ""
    controls: Mapping[str, nn.Module] = field(default_factory=dict)
    together: Count = 1

    @property
    def trained(self) -> Interpreter:
        """The interpreter to train with, the first of several."""
        return next(iter(self.interpreters.values()))

    @property
    def attacked(self) -> list[Interpreter]:
        """The interpreters to train with, all at once."""
        return list(self.interpreters.values())[: self.together]

    @property
    def attacked_name(self) -> str:
        """The names of the interpreters to train with, e.g. `gradcam+lrp_t`."""
        return JOINT.join(interpreter.name for interpreter in self.attacked)

    @property
    def explained(self) -> Samples:
        """The test images whose heatmaps are measured: the composites, where there are any."""
        return self.explained_in("test")

    def images_in(self, split: Split) -> Samples:
        """Return the ordinary images of a split: `selection` or `test`."""
        return self.data.selection() if split == "selection" else self.data.test()

    def explained_in(self, split: Split) -> Samples:
        """Return the images of a split whose heatmaps are measured: the composites, where there are any."""
        if self.composites is None:
            return self.images_in(split)
        return self.composites.selection if split == "selection" else self.composites.test

    @property
    def pair(self) -> tuple[int, int] | None:
        """The classes that an active fooling swaps, by index."""
        return self.composites.train.classes if self.composites else None
