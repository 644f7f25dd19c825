"""What interpreters have in common that explain by another interpreter, run in another way."""

from dataclasses import dataclass, replace

from advfool.interpreters.base import Interpreter
from advfool.interpreters.gradient import SimpleGrad
from advfool.utilities.heatmaps import Normalise


@dataclass(frozen=True)
class Wrapping(Interpreter):
    """Explain by another interpreter's unnormalised heatmaps, and normalise as it does (abstract).

    Args:
        interpreter: the other interpreter; its normalisation is the default one.
    """

    interpreter: Interpreter = SimpleGrad()

    @property
    def default_normalise(self) -> Normalise:
        return self.interpreter.normalisation

    @property
    def signed(self) -> bool:
        return self.interpreter.signed and self.normalise != "minmax"

    @property
    def layer(self) -> str | None:
        """The layer that the other interpreter explains by, or None."""
        return getattr(self.interpreter, "layer", None)

    def for_training(self) -> Interpreter:
        return replace(self, interpreter=self.interpreter.for_training())
