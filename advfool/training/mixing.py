"""Blended images: more inputs on which the manipulated network must agree with the original one."""

import torch
from jaxtyping import Float
from torch import Tensor


def mix_images(images: Float[Tensor, "n channels h w"], share: float) -> Float[Tensor, "n channels h w"]:
    """Blends the first `share` of the batch with other images of it: half by mixup, half by cutmix.

    Mixup takes 0.3 to 0.7 of the image, cutmix pastes a patch of half the height and width. Blended images have no
    label, so they serve distillation only. Random numbers come from torch's global generator.

    Source: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix), used for distillation as in Beyer et al. 2022.
    """
    count = round(share * len(images))
    if count == 0:
        return images
    partners = images[torch.randperm(len(images))[:count]]
    half = count // 2
    weight = 0.3 + 0.4 * torch.rand(half, 1, 1, 1).to(images)
    mixed = images.clone()
    mixed[:half] = torch.lerp(images[:half], partners[:half], weight)
    height, width = images.shape[-2:]
    for i in range(half, count):
        top, left = (int(torch.randint(side - side // 2 + 1, ())) for side in (height, width))
        patch = (..., slice(top, top + height // 2), slice(left, left + width // 2))
        mixed[i][patch] = partners[i][patch]
    return mixed
