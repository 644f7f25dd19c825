"""Attributions of captum and zennit as interpreters, for evaluation only."""

import copy
import importlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.interpreters.base import Interpreter, LayerInterpreter
from advfool.interpreters.tracing.recording import Recording
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.modules import module_at


@dataclass(frozen=True)
class Adapter(LayerInterpreter):
    """Abstract: another library's attribution, summed over channels (`absolute`: of absolute values).

    It works on a copy of the network whose activations do not overwrite their inputs, because its hooks need that.
    """

    absolute: bool = False

    @property
    def signed(self) -> bool:
        return not self.absolute and self.normalise != "minmax"

    library: ClassVar[str]

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        with torch.inference_mode(False), torch.enable_grad():
            network = copy.deepcopy(recording.network)
            for module in network.modules():
                if hasattr(module, "inplace"):
                    module.inplace = False
            images = recording.images.detach().clone()
            attribution = self.attribute(network, images, recording.classes(targets).clone())
        maps = self.as_maps([attribution.detach()])
        return self.scale((maps.abs() if self.absolute else maps).sum(dim=1))

    @abstractmethod
    def attribute(
        self, network: nn.Module, images: Float[Tensor, "n 3 H W"], targets: Int[Tensor, "n"]
    ) -> Float[Tensor, "n ..."]:
        """The library's attribution for the images or the layer's activation."""

    def for_training(self) -> Interpreter:
        raise AdvfoolError(
            f"interp={self.name or type(self).__name__.lower()} is for evaluation only: {self.library}'s attributions "
            "have no right gradient with respect to the network's parameters. Train with advfool's own interpreters."
        )


@dataclass(frozen=True)
class Captum(Adapter):
    """Any attribution class of captum by name: `Captum("IntegratedGradients", call={"n_steps": 16})`.

    arguments: of its constructor, besides the network and, for names that begin with Layer or Guided, `layer`.
    call: of its `attribute`, besides images and target. `layer` matters to the classes that take one.

    Source: Kokhlikyan et al. 2020.
    """

    method: str = "Saliency"
    arguments: Mapping[str, Any] | None = None
    call: Mapping[str, Any] | None = None

    library: ClassVar[str] = "captum"

    def attribute(self, network, images, targets):
        kind = _class(_module("captum.attr", "captum"), self.method)
        takes_layer = self.method.startswith("Layer") or self.method == "GuidedGradCam"
        if takes_layer and self.layer is None:
            raise AdvfoolError(f"captum's {self.method} needs a layer, e.g. interp.layer=layer4.2.")
        layer = [module_at(network, self.layer)] if takes_layer else []
        side = {"attribute_to_layer_input": self.layer_side == "input"} if self.method.startswith("Layer") else {}
        attribution = kind(network, *layer, **(self.arguments or {})).attribute(
            images, target=targets, **side, **(self.call or {})
        )
        return attribution[0] if isinstance(attribution, tuple) else attribution


@dataclass(frozen=True)
class Zennit(Adapter):
    """Any composite of zennit by name, in any of its attributors: `Zennit("EpsilonPlus", canonizer="ResNetCanonizer")`.

    arguments: of the composite. canonizer: a class of zennit.torchvision or zennit.canonizers, or None. attributor: a
    class of zennit.attribution with its `attributor_arguments`. Always at the images. Relevance starts at the logit.

    Source: Anders et al. 2021.
    """

    composite: str = "EpsilonPlus"
    arguments: Mapping[str, Any] | None = None
    canonizer: str | None = None
    attributor: str = "Gradient"
    attributor_arguments: Mapping[str, Any] | None = None

    library: ClassVar[str] = "zennit"

    def attribute(self, network, images, targets):
        composites, attributors = (_module(f"zennit.{part}", "zennit") for part in ("composites", "attribution"))
        canonizers = []
        if self.canonizer:
            places = [_module(f"zennit.{part}", "zennit") for part in ("torchvision", "canonizers")]
            place = next((p for p in places if hasattr(p, self.canonizer)), places[0])
            canonizers = [_class(place, self.canonizer)()]
        arguments = {key: _tensor(value, images) for key, value in (self.arguments or {}).items()}
        composite = _class(composites, self.composite)(canonizers=canonizers, **arguments)
        attributor = _class(attributors, self.attributor)(
            model=network, composite=composite, **(self.attributor_arguments or {})
        )
        with attributor as attribute:
            return attribute(images, lambda logits: _only(logits, targets))[1]


def _only(logits: Float[Tensor, "n c"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n c"]:
    repeats = len(logits) // len(targets)
    chosen = torch.zeros_like(logits).scatter(1, targets.repeat(repeats)[:, None], 1)
    return chosen * logits


def _tensor(value: Any, images: Tensor) -> Any:
    """Lists (low, high: one number for each channel) as tensors that zennit can broadcast."""
    return torch.tensor(list(value)).to(images)[None, :, None, None] if isinstance(value, list | tuple) else value


def _module(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AdvfoolError(f"interp={package} needs {package}: pip install 'advfool[{package}]'.") from error


def _class(module: ModuleType, name: str) -> type:
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [n for n, value in vars(module).items() if isinstance(value, type) and not n.startswith("_")]
        raise AdvfoolError(f"{module.__name__} has no class '{name}'. Close to it: {nearest(name, classes)}.")
    return found
