"""Heatmaps in one call: `advfool.explain`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from advfool.interpreters.base import Interpreter
from advfool.library.interpreters import named_interpreter
from advfool.utilities.errors import AdvfoolError
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
    """Compute the heatmaps of images. It works as Quantus' `explain_func`.

    Args:
        model: any network.
        inputs: images (n, c, H, W), as the network takes them.
        targets: the class that is explained for each image, or one for all.
        interp: an interpreter's name on the command line (see `list_interpreters`), or an object.
        size: of the heatmaps: `input` for that of the images, (height, width) in pixels, or None for their own. They
            are resized bilinearly.
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
        model = model.to(device)
    parameter = next(model.parameters())
    images = torch.as_tensor(inputs).to(parameter)
    classes = torch.as_tensor(targets, device=parameter.device).long().expand(len(images))
    if isinstance(interp, str):
        interp = named_interpreter(interp, model, tuple(images.shape[1:]), **settings)
    elif settings:
        raise AdvfoolError(f"explain: {', '.join(settings)} belong to an interpreter given by name, not to an object.")
    with torch.no_grad():
        heatmaps = interp(model, images, classes).float()
    if size is not None:
        wanted = (images.shape[-2], images.shape[-1]) if not isinstance(size, tuple) else size
        heatmaps = resize(heatmaps, wanted)
    return heatmaps.cpu().numpy()
