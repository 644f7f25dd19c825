"""A cache of what the original network says, and what it costs."""

from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader

from advfool.data.samples import collate
from advfool.interpreters import GradCAM
from advfool.training.cached_original import cached_original

LAYER = "layer3.1"


GRADCAM = GradCAM(name="gradcam", layer=LAYER, training_leak=0.1)


CPU = torch.device("cpu")


EVAL_BATCH = 8


def keep(cache, network, data, targets="label", interpreter=GRADCAM, precision=None):
    dtype = next(network.parameters()).dtype

    def collated(batch):
        batch = collate(batch)
        return batch._replace(image=batch.image.to(dtype))

    loader = DataLoader(data, EVAL_BATCH, collate_fn=collated)
    return cached_original(cache, network, interpreter, data, loader, targets, CPU, precision)


def finished(cache):
    """How many different things are kept."""
    return len([path for path in (cache / "original").iterdir() if path.is_dir() and not path.suffix])


@contextmanager
def passes(network):
    """Counts the forward passes of a network."""
    count = []
    handle = network.register_forward_pre_hook(lambda *_: count.append(1))
    yield count
    handle.remove()
