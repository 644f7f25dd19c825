"""Measures the controls of a setup by themselves, without a manipulated network."""

from dataclasses import replace

from pytorch_lightning import Trainer

from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.setup import AOPCSettings, Setup
from advfool.evaluation.summary import describe, summarise_nulls


def measure_nulls(setup: Setup, trainer: Trainer) -> dict:
    """Measure what the success and the deceptive rate of each control are, on the test images.

    Args:
        setup: the original network, the networks of controls, data, interpreters, fooling and settings.
        trainer: runs the comparison.

    Returns:
        see `advfool.evaluation.summary.summarise_nulls`, and what was measured on how many images.
    """
    settings = setup.settings
    images = settings.nulls.images
    faithfulness = replace(settings.faithfulness, images=images)
    own = replace(setup, settings=replace(settings, aopc=AOPCSettings(), faithfulness=faithfulness))
    # In the place of the manipulated network stands the original one: its rows are not read.
    results = compare_networks(own, own.original, trainer)
    total = len(results.explained["index"])
    counts = {"n_images_fsr": total, "n_images_nulls": min(images, total)}
    return summarise_nulls(results.nulls, own) | counts | describe(own)
