"""Use attributions of captum and zennit as interpreters, for evaluation only."""

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.interpreters.base import Interpreter, LayerInterpreter
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Layout, Side
from advfool.interpreters.tracing.threads import lock_of
from advfool.utilities.errors import AdvfoolError, first_line, nearest
from advfool.utilities.kinds import Share, Text
from advfool.utilities.modules import copied, module_at
from advfool.utilities.outputs import select_logits


@dataclass(frozen=True, kw_only=True)
class Adapter(LayerInterpreter):
    """Compute another library's attribution and sum it over channels (abstract).

    The library works on a copy of the network without in-place activations, which its hooks require.

    Args:
        absolute: sum absolute values.
    """

    layer: Text | None = field(default=None, kw_only=True)
    layer_side: Side = field(default="input", kw_only=True)
    layout: Layout = field(default="nchw", kw_only=True)
    training_leak: Share = field(default=0.0, kw_only=True)
    leak: Share = field(default=0.0, kw_only=True)
    absolute: bool = False

    library: ClassVar[str] = ""

    @property
    def signed(self) -> bool:
        return not self.absolute and self.normalise != "minmax"

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        with torch.inference_mode(False), torch.enable_grad():
            network = _copy_without_in_place(recording.network)
            images = recording.images.detach().clone()
            try:
                attribution = self.attribute(network, images, recording.classes(targets).clone())
            except (AdvfoolError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # the other library's code and the network's may raise anything
                raise AdvfoolError(
                    f"{self.library} failed on {type(network).__name__} ({type(error).__name__}): {first_line(error)} "
                    "Choose another method or one of advfool's own interpreters, or remove what is in its way."
                ) from error
        maps = self.as_maps([attribution.detach()])
        return self.scale((maps.abs() if self.absolute else maps).sum(dim=1))

    @abstractmethod
    def attribute(
        self, network: nn.Module, images: Float[Tensor, "n channels H W"], targets: Int[Tensor, "n"]
    ) -> Float[Tensor, "n ..."]:
        """Return the library's attribution to the images or to the layer's activation.

        Args:
            network: a copy of the network, which may be changed.
            images: the network's input.
            targets: the class to explain for each image.
        """

    def for_training(self) -> Interpreter:
        raise AdvfoolError(
            f"interp={self.name or type(self).__name__.lower()} is for evaluation only: the attributions of "
            f"{self.library} have no correct gradient with respect to the network's parameters. Train with one of "
            "advfool's own interpreters."
        )


@dataclass(frozen=True)
class Captum(Adapter):
    """Compute any attribution of captum by the name of its class: `Captum("IntegratedGradients")`.

    Args:
        method: the name of a class of `captum.attr`.
        arguments: further arguments of its constructor; the network and, for classes whose name begins with Layer
            and for GuidedGradCam, the layer are passed already.
        call: further arguments of its `attribute` method, for example `{"n_steps": 16}`; images and target are
            passed already.

    Source: Kokhlikyan et al. 2020.
    """

    method: Text = "Saliency"
    arguments: Mapping[str, Any] | None = None
    call: Mapping[str, Any] | None = None

    library: ClassVar[str] = "captum"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._kind  # raises the error of an unknown class

    @property
    def _kind(self) -> Any:
        """The class of captum."""
        return _class(_module("captum.attr", "captum"), self.method, "Attribution")

    def attribute(
        self, network: nn.Module, images: Float[Tensor, "n channels H W"], targets: Int[Tensor, "n"]
    ) -> Float[Tensor, "n ..."]:
        kind = self._kind
        layer, side = [], {}
        if self.method.startswith("Layer") or self.method == "GuidedGradCam":
            if self.layer is None:
                raise AdvfoolError(f"captum's {self.method} needs a layer, e.g. interp.layer=layer4.2.")
            layer = [module_at(network, self.layer)]
        if self.method.startswith("Layer"):
            side = {"attribute_to_layer_input": self.layer_side == "input"}
        attribution = kind(network, *layer, **(self.arguments or {})).attribute(
            images, target=targets, **side, **(self.call or {})
        )
        return attribution[0] if isinstance(attribution, tuple) else attribution


@dataclass(frozen=True)
class Zennit(Adapter):
    """Compute the attribution of any composite of zennit by the name of its class: `Zennit("EpsilonAlpha2Beta1")`.

    Heatmaps are always at the images, and relevance starts at the logit. Versions 0.5 and 1.0 of zennit work; only 1.0
    takes the eps of a batch norm into account when a canonizer folds it.

    Args:
        composite: the name of a class of `zennit.composites`.
        arguments: its arguments; lists (`low`, `high`) hold one number for each channel.
        canonizer: the name of a class of `zennit.torchvision` or `zennit.canonizers`, for example ResNetCanonizer.
        attributor: the name of a class of `zennit.attribution`.
        attributor_arguments: its further arguments.

    Source: Anders et al. 2021.
    """

    composite: Text = "EpsilonPlus"
    arguments: Mapping[str, Any] | None = None
    canonizer: Text | None = None
    attributor: Text = "Gradient"
    attributor_arguments: Mapping[str, Any] | None = None

    library: ClassVar[str] = "zennit"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._kinds  # raises the errors of unknown classes

    @property
    def _kinds(self) -> tuple[Any, Any, Any]:
        """The classes of zennit: composite, attributor, and canonizer or None."""
        composite = _class(_module("zennit.composites", "zennit"), self.composite, "Composite")
        attributor = _class(_module("zennit.attribution", "zennit"), self.attributor, "Attributor")
        if self.canonizer is None:
            return composite, attributor, None
        places = [_module(f"zennit.{part}", "zennit") for part in ("torchvision", "canonizers")]
        place = next((place for place in places if hasattr(place, self.canonizer)), places[0])
        return composite, attributor, _class(place, self.canonizer, "Canonizer")

    def attribute(
        self, network: nn.Module, images: Float[Tensor, "n channels H W"], targets: Int[Tensor, "n"]
    ) -> Float[Tensor, "n ..."]:
        composite, attributor, canonizer = self._kinds
        arguments = {key: _tensor(value, images) for key, value in (self.arguments or {}).items()}
        rules = composite(canonizers=[canonizer()] if canonizer else [], **arguments)
        attributor = attributor(model=network, composite=rules, **(self.attributor_arguments or {}))
        with attributor as attribute:
            return attribute(images, lambda logits: _only(logits, targets))[1]


def _copy_without_in_place(network: nn.Module) -> nn.Module:
    with lock_of(network):  # a recording in another thread may have registered hooks
        network = copied(network)
    select_logits(network)
    for module in network.modules():
        module.training = False
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - nn.Module's annotations allow tensors and modules only
    return network


def _only(logits: Float[Tensor, "m c"], targets: Int[Tensor, "n"]) -> Float[Tensor, "m c"]:
    """Set all logits to zero but those of the target classes; an attributor may repeat the batch."""
    repeats = len(logits) // len(targets)
    chosen = torch.zeros_like(logits).scatter(1, targets.repeat(repeats)[:, None], 1)
    return chosen * logits


def _tensor(value: Any, images: Tensor) -> Any:
    """Convert a list of one number for each channel to a tensor that zennit can broadcast."""
    return torch.tensor(list(value)).to(images)[None, :, None, None] if isinstance(value, list | tuple) else value


def _module(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AdvfoolError(f"interp={package} needs {package}: pip install 'advfool[{package}]'.") from error


def _is_kind(value: object, kind: str) -> bool:
    return isinstance(value, type) and kind in [base.__name__ for base in value.__mro__]


def _class(module: ModuleType, name: str, kind: str) -> Any:
    """Find a class by its name; `kind` is the name of a class that it descends from."""
    found = vars(module).get(name)
    if not _is_kind(found, kind):
        classes = [each for each, value in vars(module).items() if _is_kind(value, kind) and not each.startswith("_")]
        raise AdvfoolError(f"{module.__name__} has no class '{name}'. Close to it: {nearest(name, classes)}.")
    return found
