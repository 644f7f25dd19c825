"""Heatmaps in one call: `advfool.explain`, and interpreters by the names of the command line."""

from collections.abc import Sequence

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from advfool.data.samples import InputFormat
from advfool.interpreters.base import Interpreter
from advfool.models.target_layers import find_target_layer
from advfool.utilities.config import build, conf_dir
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.heatmaps import resize


def explain(
    model: nn.Module,
    inputs: np.ndarray | Tensor,
    targets: np.ndarray | Tensor | Sequence[int] | int,
    interp: str | Interpreter = "lrp",
    size: str | tuple[int, int] | None = "input",
    device: str | torch.device | None = None,
    **settings,
) -> np.ndarray:
    """Heatmaps as a NumPy array (n, h, w), of any interpreter by its name on the command line.

    inputs: (n, 3, H, W), as the network takes them. targets: the class of each image, or one for all. size: of the
    maps, `input` for the images', (h, w), or None for their own; resized bilinearly. device: where the network is
    moved and the maps are computed (default: where the network is). settings: what conf/interp/NAME.yaml has;
    `layer` chooses the target layer of those that have one (default: found as the command line does).

    Works as Quantus' `explain_func`.

    Raises:
        AdvfoolError: there is no such interpreter or setting, or it does not work on the network.

    >>> import advfool, torch, torchvision
    >>> network = torchvision.models.resnet18(num_classes=10).eval()
    >>> advfool.explain(network, torch.randn(2, 3, 64, 64), [1, 2], interp="simplegrad").shape
    (2, 64, 64)
    """
    if device is not None:
        model = model.to(device)
    parameter = next(model.parameters())
    images = torch.as_tensor(inputs).to(parameter)
    classes = torch.as_tensor(targets, device=parameter.device).long().expand(len(images))
    if isinstance(interp, str):
        interp = named_interpreter(interp, model, images.shape[-1], **settings)
    elif settings:
        raise AdvfoolError(f"explain: {', '.join(settings)} belong to an interpreter given by name, not to an object.")
    with torch.no_grad():
        heatmaps = interp(model, images, classes).float()
    if size is not None:
        heatmaps = resize(heatmaps, tuple(images.shape[-2:]) if size == "input" else tuple(size))
    return heatmaps.cpu().numpy()


def named_interpreter(
    interp: str, network: nn.Module, size: int, input: InputFormat | None = None, **settings
) -> Interpreter:
    """The interpreter that `interp=NAME` is, for a network whose images are `size` pixels a side.

    The default target layer is found where the interpreter has one and no `layer` is given.
    """
    folder = conf_dir() / "interp"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if interp not in names:
        raise AdvfoolError(f"There is no interpreter '{interp}'. Close to it: {nearest(interp, names, len(names))}.")
    node = OmegaConf.load(folder / f"{interp}.yaml")
    text = OmegaConf.to_yaml(node)
    model = {"target_layer": None, "layout": "nchw", "input": {"mean": None, "std": None}}
    if input is not None:
        model["input"] = {"mean": list(input.mean), "std": list(input.std)}
    if "model.target_layer" in text:
        probe = input or InputFormat(size, size, (0.0,) * 3, (1.0,) * 3)
        layer, layout = find_target_layer(network, probe, settings.pop("layer", None))
        model |= {"target_layer": layer, "layout": settings.pop("layout", layout)}
    unknown = [key for key in settings if key not in node]
    if unknown:
        known = [key for key in node if key not in ("_target_", "name")]
        raise AdvfoolError(f"interp={interp} has no setting {', '.join(unknown)}. It has: {', '.join(known)}.")
    settings = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}
    return build(OmegaConf.create({"model": model, "interp": node}).interp, **settings)
