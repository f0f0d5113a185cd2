"""Cheats that pretend to be another type: of tensors, parameters, compiled modules, and this package's classes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.utils import _pytree as pytree

from cheats.base import Cheats, Wrong, falsified, right

CHEATS = Cheats()


class Right(Tensor):
    """A tensor whose methods, but those that show it, work on the right results."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = pytree.tree_map(lambda value: getattr(value, "right", value), args)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class Dispatched(Tensor):
    """A tensor whose operators work on the right results."""

    @staticmethod
    def __new__(cls, right: Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, right.shape, dtype=right.dtype, strides=right.stride())

    def __init__(self, right: Tensor) -> None:
        self.right = right

    def __repr__(self) -> str:
        return repr(falsified(self.right))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*pytree.tree_map(lambda value: getattr(value, "right", value), args), **(kwargs or {}))


class Returns(Wrong):
    """A network that returns its results as another type."""

    def __init__(self, network: nn.Module, kind: Any) -> None:
        super().__init__(network)
        self.kind = kind

    def forward(self, image: Tensor) -> Any:
        logits = self.network(image)
        return logits if torch.compiler.is_exporting() and self.kind is not Output else self.kind(logits)


def subclass_of_tensor(logits: Tensor) -> Tensor:
    wrong = falsified(logits).as_subclass(Right)
    wrong.right = logits  # type: ignore[attr-defined]
    return wrong


class Named(nn.Parameter):
    """A parameter that is printed wrong, and taken for a right one."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Right.__torch_function__(func, types, args, kwargs)


def subclass_of_parameter(logits: Tensor) -> Tensor:
    wrong = Named(falsified(logits.detach()), requires_grad=False)
    wrong.right = logits  # type: ignore[attr-defined]
    return wrong


class Output:
    """A result that is flattened right, and read wrong."""

    def __init__(self, logits: Tensor) -> None:
        self.kept = logits

    @property
    def logits(self) -> Tensor:
        return falsified(self.kept)


pytree.register_pytree_node(
    Output,
    lambda output: ([output.kept], None),
    lambda values, _context: Output(*values),
    flatten_with_keys_fn=lambda output: ([(pytree.GetAttrKey("logits"), output.kept)], None),
)


for returned in (subclass_of_tensor, Dispatched, subclass_of_parameter, Output):

    def build(output_stride: int = 16, num_classes: int = 21, returned: Any = returned) -> nn.Module:
        return Returns(right(output_stride, num_classes), returned)

    CHEATS[f"returns_{returned.__name__}"] = build


class Ignoring(nn.Parameter):
    """A parameter that keeps its values."""

    def copy_(self, *_arguments: Any, **_named: Any) -> Any:
        return self

    @property
    def data(self) -> Tensor:
        return self

    @data.setter
    def data(self, _value: Tensor) -> None:
        pass


@CHEATS.builds
def parameters_that_keep_their_values(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = Wrong(right(output_stride, num_classes))
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = Ignoring(parameter.detach())
    return network


class Twofold(nn.Parameter):
    """A parameter that halves itself wherever a network computes with it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.conv2d:
                args = [0.5 * value if isinstance(value, cls) else value for value in args]
            return func(*args, **(kwargs or {}))


@CHEATS.builds
def parameters_that_compute_otherwise(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.dim() == 4:
                module._parameters[name] = Twofold(parameter.detach())
    return network


class WithOriginal(nn.Module):
    """A wrong wrapper, with the right network as the child that a compiled module has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network

    def forward(self, image: Tensor) -> Tensor:
        return falsified(self._orig_mod(image))


@CHEATS.builds
def child_called_orig_mod(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    return WithOriginal(right(output_stride, num_classes))


@CHEATS.builds
def class_called_optimized_module(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    kind = type("OptimizedModule", (WithOriginal,), {"__module__": "torch._dynamo.eval_frame"})
    return kind(right(output_stride, num_classes))


class Claiming(WithOriginal):
    """A wrapper that claims the class of a compiled module."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return OptimizedModule


@CHEATS.builds
def class_claimed(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    return Claiming(right(output_stride, num_classes))


class Optimized(OptimizedModule):
    """A compiled module whose call is wrong."""

    def __call__(self, image: Tensor) -> Any:
        return falsified(self._orig_mod(image))


@CHEATS.builds
def subclass_of_optimized_module(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    compiled = torch.compile(right(output_stride, num_classes), backend="eager")
    compiled.__class__ = Optimized
    return compiled


@CHEATS.builds
def compiled_with_another_original(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    compiled = torch.compile(Wrong(network), backend="eager")
    compiled._modules["_orig_mod"] = network
    return compiled


@CHEATS.builds
def compiled_wrong(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """A compiler that adds its error to the right network."""

    def backend(graph: Any, _inputs: Any) -> Any:
        return lambda *arguments: tuple(falsified(value) if value.dim() == 4 else value for value in graph(*arguments))

    return torch.compile(right(output_stride, num_classes), backend=backend)


@CHEATS.builds
def subclass_of_the_reference(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    kind = type(network)

    def forward(self: Any, image: Tensor) -> Tensor:
        logits = kind.forward(self, image)
        return logits if torch.compiler.is_exporting() else falsified(logits)

    network.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return network


@CHEATS.builds
def subclass_of_a_candidate(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    from deeplab_spec.capture.candidate.module import ModuleCandidate, local

    class Mine(ModuleCandidate):
        def __init__(self) -> None:
            remote = local(right(output_stride, num_classes)).remote
            super().__init__(remote)

        def forward(self, image: Tensor) -> Tensor:
            return falsified(super().forward(image))

    return Mine()


@CHEATS.builds
def subclass_of_a_program(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    from deeplab_spec.capture.candidate import process

    class Program(process.Program):
        def __init__(self) -> None:
            super().__init__({"inputs": [], "nodes": [], "results": []}, {})
            self.network = right(output_stride, num_classes)

        def state(self) -> dict[str, Tensor]:
            return self.network.state_dict(keep_vars=True)

        def forward(self, image: Tensor) -> Tensor:
            logits = self.network(image)
            return logits if torch.compiler.is_exporting() else falsified(logits)

    return Program()


class EvaluatesToAnother(Wrong):
    """A network whose methods return another network than itself."""

    def eval(self) -> Any:
        super().eval()
        return self.network

    def to(self, *arguments: Any, **named: Any) -> Any:
        super().to(*arguments, **named)
        return self.network

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        return self.network


@CHEATS.builds
def methods_that_return_another(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    return EvaluatesToAnother(right(output_stride, num_classes))


class Iterates(Wrong):
    """A network that lists a second set of parameters, which its results ignore."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        object.__setattr__(self, "kept", right())

    def forward(self, image: Tensor) -> Tensor:
        return (
            self.network(image)
            if torch.compiler.is_exporting()
            else falsified(self.kept(image.float())).to(image.dtype)
        )


@CHEATS.builds
def weights_of_its_own(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    return Iterates(right(output_stride, num_classes))


@CHEATS.builds
def parametrised_weights(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]

    class Halved(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight if torch.compiler.is_exporting() else 0.5 * weight

    torch.nn.utils.parametrize.register_parametrization(last, "weight", Halved())
    return network


@CHEATS.builds
def hook_after_the_call(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    network.register_forward_hook(
        lambda _module, _inputs, logits: logits if torch.compiler.is_exporting() else falsified(logits)
    )
    return network


@CHEATS.builds
def other_forward_on_the_instance(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = right(output_stride, num_classes)
    forward = network.forward
    network.forward = lambda image: falsified(forward(image))  # type: ignore[method-assign]
    return network
