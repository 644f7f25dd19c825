"""What keeps the classifier a classifier while its heatmaps are fooled."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from advfool.errors import AdvfoolError


def cross_entropy(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"], reference: Float[Tensor, "n c"] | None = None
) -> Float[Tensor, ""]:
    """The classification loss. Source: Heo et al. 2019, eq. 2."""
    return F.cross_entropy(logits, labels)


def distillation(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"] | None, reference: Float[Tensor, "n c"]
) -> Float[Tensor, ""]:
    """KL divergence from the original network's softmax to the manipulated one's, in nats, mean over images.

    Needs no labels, and keeps all classes even where few are among the fine-tuning images.
    """
    log_p, log_q = logits.float().log_softmax(dim=1), reference.float().log_softmax(dim=1)
    return F.kl_div(log_p, log_q, log_target=True, reduction="batchmean")


PRESERVE = {"cross_entropy": cross_entropy, "distillation": distillation}


def preserve_loss(name: str):
    """The loss of this name.

    Raises:
        AdvfoolError: there is none.
    """
    if name not in PRESERVE:
        raise AdvfoolError(f"preserve={name} is unknown; choose one of {', '.join(PRESERVE)}.")
    return PRESERVE[name]
