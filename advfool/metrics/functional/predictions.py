"""What a network predicts, and how far two networks agree on it."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from advfool.utilities.classes import top_classes


def top_k_correct(logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"], k: int) -> Bool[Tensor, "n"]:
    """Whether the label is among the k largest logits (all of them where there are fewer classes); ties by index."""
    return (top_classes(logits, k) == labels[:, None]).any(dim=1)


def prediction_agreement(
    original_logits: Float[Tensor, "n c"], manipulated_logits: Float[Tensor, "n c"]
) -> Bool[Tensor, "n"]:
    """Whether both networks put the same class first, right or wrong."""
    return original_logits.argmax(dim=1) == manipulated_logits.argmax(dim=1)


def kl_divergence(
    original_logits: Float[Tensor, "n c"], manipulated_logits: Float[Tensor, "n c"]
) -> Float[Tensor, "n"]:
    """Kullback-Leibler divergence `sum_c p_c log(p_c / q_c)` from original (p) to manipulated (q), in nats, float64.

    Zero for equal predictions, never negative.

    >>> import torch
    >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]).log_softmax(dim=1))
    tensor([0.], dtype=torch.float64)
    """
    p, q = (logits.double().log_softmax(dim=1) for logits in (original_logits, manipulated_logits))
    return F.kl_div(q, p, log_target=True, reduction="none").sum(dim=1).clamp(min=0)
