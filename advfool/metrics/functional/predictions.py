"""The predictions of a network, and the agreement of two networks."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from advfool.metrics.facts import metric
from advfool.utilities.checking import checked
from advfool.utilities.classes import check_targets, top_classes
from advfool.utilities.kinds import Count


@metric(needs=("logits",), direction="higher", range=(0, 1))
@checked
def top_k_correct(logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"], k: Count) -> Bool[Tensor, "n"]:
    """Test whether the label of each image is among the top k classes.

    Args:
        logits: outputs of the network.
        labels: index of each image's class.
        k: number of classes; with fewer classes, every image is correct. Among equal logits the class with the lower
            index comes first.
    """
    check_targets(labels, logits.shape[1])
    return (top_classes(logits, k) == labels[:, None]).any(dim=1)


@metric(needs=("logits",), direction="higher", range=(0, 1))
@checked
def prediction_agreement(
    original_logits: Float[Tensor, "n c"], manipulated_logits: Float[Tensor, "n c"]
) -> Bool[Tensor, "n"]:
    """Test whether both networks predict the same class, right or wrong.

    Args:
        original_logits: outputs of the original network.
        manipulated_logits: outputs of the manipulated network for the same images.
    """
    return original_logits.argmax(dim=1) == manipulated_logits.argmax(dim=1)


@metric(needs=("logits",), direction="lower", range=(0, None))
@checked
def kl_divergence(
    original_logits: Float[Tensor, "n c"], manipulated_logits: Float[Tensor, "n c"]
) -> Float[Tensor, "n"]:
    """Compute the Kullback-Leibler divergence `sum_c p_c log(p_c / q_c)` of the predicted probabilities.

    Args:
        original_logits: outputs of the original network, whose probabilities are p.
        manipulated_logits: outputs of the manipulated network for the same images, whose probabilities are q.

    Returns:
        A value in nats and in float64 for each image: zero for equal predictions, never negative.

    Source: Kullback and Leibler 1951.

    >>> import torch
    >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]).log_softmax(dim=1))
    tensor([0.], dtype=torch.float64)
    """
    p, q = (logits.double().log_softmax(dim=1) for logits in (original_logits, manipulated_logits))
    return F.kl_div(q, p, log_target=True, reduction="none").sum(dim=1).clamp(min=0)
