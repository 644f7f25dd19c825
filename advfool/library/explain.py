"""Heatmaps in one call: `advfool.explain`."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from advfool.interpreters.base import Interpreter
from advfool.library.interpreters import named_interpreter
from advfool.utilities.checking import checked
from advfool.utilities.classes import Targets
from advfool.utilities.errors import AdvfoolError, first_line
from advfool.utilities.heatmaps import resize
from advfool.utilities.kinds import Side, Text
from advfool.utilities.outputs import returning_logits


@checked
def explain(
    model: nn.Module,
    inputs: np.ndarray | Tensor | Sequence[Any],
    targets: Targets,
    interp: Text | Interpreter = "lrp",
    size: Literal["input"] | tuple[Side, Side] | None = "input",
    output: Text | int | None = None,
    device: Text | torch.device | None = None,
    **settings,
) -> np.ndarray:
    """Compute the heatmaps of images. It works as Quantus' `explain_func`.

    Args:
        model: any network. It runs in eval mode; its mode, weights and statistics are left as they are.
        inputs: images (n, c, H, W), as the network takes them, with any number of channels.
        targets: the class that is explained for each image (class indices, or one-hot rows), or one for all.
        interp: an interpreter's name on the command line (see `list_interpreters`), or an object.
        size: of the heatmaps: `input` for that of the images, (height, width) in pixels, or None for their own. They
            are resized bilinearly.
        output: which of the network's outputs are the logits, where it returns several: a position or a name. None:
            the only one of the form (n, classes), or the one named `logits`.
        device: where the network is moved and the heatmaps are computed; None: where the network is.
        settings: of an interpreter given by name, in place of those in conf/interp/NAME.yaml; `layer` is the target
            layer of those that have one (default: the last convolution or block whose map is at least 7x7).

    Returns:
        heatmaps (n, h, w).

    Raises:
        AdvfoolError: there is no such interpreter or setting, or it does not work on the network.

    >>> import advfool, torch, torchvision
    >>> network = torchvision.models.resnet18(num_classes=10).eval()
    >>> advfool.explain(network, torch.randn(2, 3, 64, 64), [1, 2], interp="simplegrad").shape
    (2, 64, 64)
    """
    if device is not None:
        model = model.to(_usable(device))
    images = _as_images(inputs, model)
    with torch.no_grad(), returning_logits(model, output):
        if isinstance(interp, str):
            interp = named_interpreter(interp, model, tuple(images.shape[1:]), **settings)
        elif settings:
            raise AdvfoolError(
                f"explain: {', '.join(settings)} belong to an interpreter given by name, not to an object."
            )
        heatmaps = interp(model, images, targets).float()
    if size is not None:
        height, width = images.shape[-2:] if size == "input" else size
        heatmaps = resize(heatmaps, (height, width))
    return heatmaps.cpu().numpy()


def _usable(device: str | torch.device) -> torch.device:
    """Return a device, after a number was moved there."""
    try:
        found = torch.device(device)
        torch.zeros(1).to(found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise AdvfoolError(
            f"device must be one that this machine has, such as cpu or cuda, got '{device}': {first_line(error)}"
        ) from error
    return found


def _as_images(inputs: np.ndarray | Tensor | Sequence[Any], model: nn.Module) -> Tensor:
    """Return the images in the type and on the device of the network's weights."""
    try:
        images = torch.as_tensor(inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdvfoolError(f"explain: inputs must be images as numbers: {first_line(error)}") from error
    if images.dim() != 4 or not images.numel():
        raise AdvfoolError(
            f"explain: expected images of the form (n, channels, height, width), got {tuple(images.shape)}. "
            "One image needs the form (1, channels, height, width): images[None]."
        )
    if images.is_complex() or not images.isfinite().all():
        kind = "complex" if images.is_complex() else "NaN or infinite"
        raise AdvfoolError(
            f"explain: inputs must be finite real numbers, got {kind} values. Look at how they are made."
        )
    weights = next((p for p in (*model.parameters(), *model.buffers()) if p.dtype.is_floating_point), None)
    return images.float() if weights is None else images.to(weights)
