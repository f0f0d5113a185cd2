"""For the tests of other projects: a test class for one implementation, and Hypothesis strategies.

Example::

    from deeplab_spec.conformance import Conformance


    class TestMine(Conformance):
        variant = "notebook"
        output_strides = (8, 16)

        def build(self, output_stride, num_classes):
            return MyNetwork(output_stride, num_classes)
"""

from deeplab_spec.errors import MissingExtraError

try:
    from deeplab_spec.conformance import strategies
    from deeplab_spec.conformance.suite import Conformance
except ModuleNotFoundError as error:
    if error.name not in {"hypothesis", "pytest"}:
        raise
    raise MissingExtraError(__name__, "torch") from None

__all__ = ["Conformance", "strategies"]
