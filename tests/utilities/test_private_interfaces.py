"""Names the private interfaces of other libraries that advfool uses: a new version that drops one fails here first."""

from importlib import import_module

import pytest

PRIVATE = {
    "torch._C.DisableTorchFunction": "guided backpropagation runs its own ReLU",
    "torch._C._autograd._top_saved_tensors_default_hooks": "second derivatives stand aside inside checkpointed regions",
    "torch.nn.modules.conv._ConvNd": "convolutions are kept whole while tracing",
    "torch.nn.modules.batchnorm._BatchNorm": "batch norm has rules",
    "torch.nn.modules.dropout._DropoutNd": "dropout shares its input in eval mode",
    "torch.ops.aten.convolution_backward": "the gradient of a convolution",
    "torch.ops.aten.native_batch_norm_backward": "the gradient of a batch norm",
    "torchvision.models._meta._IMAGENET_CATEGORIES": "the words for ImageNet's classes",
    "torchvision.datasets.Imagenette._ARCHIVES": "the sizes of Imagenette",
    "pytorch_lightning.overrides.distributed.UnrepeatedDistributedSampler": "measuring repeats no image",
    "pytorch_lightning.callbacks.RichProgressBar._get_train_description": "the progress bar counts steps",
}


@pytest.mark.parametrize("name", PRIVATE)
def test_private_interfaces_exist(name):
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        break
    for attribute in parts[cut:]:
        assert hasattr(found, attribute), f"{name} is gone; advfool needs it: {PRIVATE[name]}"
        found = getattr(found, attribute)
