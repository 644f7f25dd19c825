"""Every interpreter that can be trained through."""

from advfool.interpreters import (
    LRP,
    Aggregate,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    SimpleGrad,
    SmoothGrad,
    Softplus,
)

PIXELS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


INTERPRETERS = {
    "gradcam": lambda layer: GradCAM(layer),
    "gradcam_pp": lambda layer: GradCAMPlusPlus(layer),
    "layercam": lambda layer: LayerCAM(layer),
    "hirescam": lambda layer: HiResCAM(layer),
    # With a tiny stabiliser the least active units have all the influence, and most tensors none to speak of.
    "lrp": lambda layer: LRP(stabiliser=1e-2),
    "lrp_t": lambda layer: LRP(layer),
    "lrp_alpha2_beta1_flat": lambda layer: LRP(composite="epsilon_alpha2_beta1_flat", stabiliser=1e-2),
    "lrp_gamma_box": lambda layer: LRP(composite="epsilon_gamma_box", stabiliser=1e-2, **PIXELS),
    "lrp_pass": lambda layer: LRP(batchnorm="pass", start="one", stabiliser=1e-2),
    "simplegrad": lambda layer: SimpleGrad(),
    "simplegrad_t": lambda layer: SimpleGrad(layer),
    "gradient_x_input": lambda layer: SimpleGrad(times_input=True),
    "smoothgrad": lambda layer: SmoothGrad(samples=3, chunk=2),
    "smoothgrad_lrp_t": lambda layer: SmoothGrad(LRP(layer), samples=2, chunk=1),
    "ig": lambda layer: IntegratedGradients(steps=3, chunk=2),
    "ig_t": lambda layer: IntegratedGradients(layer, steps=3, chunk=2),
    "guided_backprop": lambda layer: GuidedBackprop(),
    "softplus": lambda layer: Softplus(SimpleGrad(layer)),
    "aggregate": lambda layer: Aggregate([GradCAM(layer), LRP(layer), SimpleGrad()]),
}
