"""The classes of ImageNet."""

from advfool.data.imagenet import wnids, words


def test_imagenet_classes():
    assert len(set(wnids())) == len(words()) == 1000
    assert (wnids()[0], words()[0], words()[386], words()[555]) == (
        "n01440764",
        "tench",
        "African elephant",
        "fire engine",
    )
