"""A candidate that is right but for one thing that it does at one place: a decoder, and whole networks.

It is built in a candidate's process, by the name ``tests.support.broken_candidate:build``, and is told the place and
the thing as arguments. Nothing here is run by the tests themselves.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from deeplab_spec.reference.network import build as build_network
from deeplab_spec.spec.choices import ChoiceValue

SMALL: Final[dict[str, ChoiceValue]] = {"width": 0.03125, "middle_blocks": 2}

ONE_CALL: Final = 3
"""The batch of the calls that are hurt at the place ``one batch``."""


class Unprintable(Exception):  # noqa: N818 - as wrong as it can be
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Endless(Exception):  # noqa: N818 - as above
    """An error whose text is long."""

    def __str__(self) -> str:
        return "x" * 10**8


class Subclass(Tensor):
    """A tensor of another class."""


def cyclic(result: Tensor) -> Any:
    """Return a list that contains itself."""
    values: list[Any] = [result]
    values.append(values)
    return values


def cyclic_dict(result: Tensor) -> Any:
    """Return a dictionary that contains itself."""
    values: dict[str, Any] = {"out": result}
    values["self"] = values
    return values


RETURNS: Final[dict[str, Callable[[Tensor], Any]]] = {
    "none": lambda _: None,
    "int": lambda _: 3,
    "text": lambda _: "logits",
    "numpy": lambda result: result.detach().numpy(),
    "sparse": lambda result: result.to_sparse(),
    "meta": lambda result: result.to("meta"),
    "quantized": lambda result: torch.quantize_per_tensor(result.float(), 0.1, 0, torch.qint8),
    "complex": lambda result: result.to(torch.complex128 if result.dtype is torch.float64 else torch.complex64),
    "nested": lambda result: torch.nested.nested_tensor([result[0]]),
    "cyclic list": cyclic,
    "cyclic dict": cyclic_dict,
    "parameter": nn.Parameter,
    "subclass": lambda result: result.as_subclass(Subclass),
    "expanded": lambda result: result[:1, :1, :1, :1].expand(1, 1, 2**20, 2**20),
    "nan": lambda result: result * float("nan"),
    "half": lambda result: result.half(),
    "integers": lambda result: result.int(),
    "wider": lambda result: torch.cat([result, result[..., :1]], dim=-1),
    "without batch": lambda result: result[0],
    "empty": lambda result: result[:0],
    "empty dict": lambda _: {},
    "list": lambda result: [result],
}
"""What a call returns instead of its result."""


def raises(error: BaseException) -> Callable[[], None]:
    """Return a function that raises an error."""

    def act() -> None:
        raise error

    return act


def recurse() -> None:
    """Call itself without end."""
    recurse()


def loop() -> None:
    """Never return."""
    while True:
        pass


def print_much() -> None:
    """Fill stdout and stderr: without lines, with control characters, and with bytes that are no text."""
    for descriptor in (1, 2):
        for _ in range(100):
            os.write(descriptor, b"\x1b[31m\x00\xff\xfe\r" + b"x" * 2**20)


def leave_children() -> None:
    """Leave processes behind: a child, one in a session of its own, and an orphan; note their numbers."""
    sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
    children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    orphan = "import os, subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=2, start_new_session=True).pid)"
    printed = subprocess.run([sys.executable, "-c", orphan, *sleep], stdout=subprocess.PIPE, text=True, check=True)
    numbers = [*(str(child.pid) for child in children), printed.stdout.strip()]
    with Path(os.environ["BROKEN_NOTE"]).open("a") as note:
        note.write("".join(f"{number}\n" for number in numbers))


def leave_threads() -> None:
    """Leave threads behind that never end."""
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(300,)).start()


def delete_folder() -> None:
    """Remove the folder of the tensors."""
    shutil.rmtree(os.environ["FOLDER_OF_TENSORS"])


def ignore_signals() -> None:
    """Ignore what asks a process to end."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)


def endless_memory() -> None:
    """Ask for memory until there is none."""
    kept = []
    while True:
        kept.append(bytearray(2**26))


EFFECTS: Final[dict[str, Callable[[], Any]]] = {
    "ValueError": raises(ValueError("no\nvalue")),
    "BaseException": raises(BaseException("base")),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "SystemExit": raises(SystemExit(0)),
    "GeneratorExit": raises(GeneratorExit()),
    "StopIteration": raises(StopIteration()),
    "MemoryError": raises(MemoryError()),
    "an error without a text": raises(Unprintable()),
    "an error of 100 MB": raises(Endless()),
    "recursion": recurse,
    "a warning as an error": lambda: (warnings.simplefilter("error"), warnings.warn("w", stacklevel=1)),
    "segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(0),
    "killing itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "killing its group": lambda: os.killpg(0, signal.SIGKILL),
    "stopping itself": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stopping its parent": lambda: os.kill(os.getppid(), signal.SIGSTOP),
    "killing its parent": lambda: (os.kill(os.getppid(), signal.SIGKILL), time.sleep(60)),
    "sleeping": lambda: time.sleep(3600),
    "looping": loop,
    "no gradients": lambda: torch.set_grad_enabled(False),
    "another dtype": lambda: torch.set_default_dtype(torch.float64),
    "another device": lambda: torch.set_default_device("meta"),
    "more threads": lambda: torch.set_num_threads(7),
    "printing": print_much,
    "children": leave_children,
    "threads": leave_threads,
    "closing every descriptor": lambda: os.closerange(0, 4096),
    "closing the pipes": lambda: os.closerange(3, 4096),
    "endless memory": endless_memory,
    "more memory": lambda: bytearray(2**40),
    "no more files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)),
    "deleting the folder": delete_folder,
    "another folder": lambda: os.chdir("/"),
    "ignoring signals": ignore_signals,
    "an alarm": lambda: (signal.signal(signal.SIGALRM, signal.default_int_handler), signal.alarm(1)),
}
"""What it does beside computing its result."""

_BUILDS: list[int] = []


class Broken(nn.Module):
    """A right decoder that does one thing at one place.

    Args:
        place: The place: ``build``, ``second build``, ``first call``, ``fifth call``, ``every call``, ``one batch``,
            ``training``, ``backward``, ``export``, or a method of modules.
        thing: The name of what it returns or does.
    """

    def __init__(self, place: str, thing: str) -> None:
        super().__init__()
        self.place, self.thing, self.calls = place, thing, 0
        self.decoder = build_network("notebook", 16, 21, SMALL).decoder
        _BUILDS.append(1)
        if place == "build" or (place == "second build" and len(_BUILDS) > 1):
            EFFECTS[thing]()

    def forward(self, x: Tensor, low_level: Tensor) -> Any:
        """Return the logits."""
        result = self.decoder(x, low_level)
        if torch.compiler.is_compiling():
            return self.act(result) if self.place == "export" else result
        self.calls += 1
        if self.place == "backward" and result.requires_grad:
            result.register_hook(lambda _: EFFECTS[self.thing]())
        hurt = {
            "first call": self.calls == 1,
            "fifth call": self.calls == 5,
            "every call": True,
            "one batch": len(x) == ONE_CALL,
            "training": self.training,
        }
        return self.act(result) if hurt.get(self.place) else result

    def act(self, result: Tensor) -> Any:
        """Do the thing, and return a result."""
        if self.thing in RETURNS:
            return RETURNS[self.thing](result)
        EFFECTS[self.thing]()
        return result

    def does(self, place: str) -> None:
        """Do the thing in a method of this name."""
        if self.__dict__.get("place") == place:
            EFFECTS[self.thing]()

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state."""
        self.does("state_dict")
        return super().state_dict(*args, **kwargs)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        """Return the parameters."""
        self.does("named_parameters")
        return super().named_parameters(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - the framework's signature
        """Change the mode."""
        self.does("train")
        return super().train(mode)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert the parameters."""
        self.does("to")
        return super().to(*args, **kwargs)

    def __getstate__(self) -> Any:
        self.does("deepcopy")
        return self.__dict__


class Silent(Broken):
    """Methods that return nothing."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]  # noqa: FBT001, FBT002 - wrong on purpose
        """Change the mode."""
        super().train(mode)

    def eval(self) -> None:  # type: ignore[override]
        """Change the mode."""
        super().train(False)  # noqa: FBT003 - the framework's signature

    def to(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Convert the parameters."""
        super().to(*args, **kwargs)

    def double(self) -> None:  # type: ignore[override]
        """Convert the parameters."""
        raise RuntimeError("it cannot be converted")


class Called(Broken):
    """Another ``__call__``."""

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the logits, without hooks."""
        return self.forward(*inputs)


class ExtraArgument(Broken):
    """One more required argument."""

    def forward(self, x: Tensor, low_level: Tensor, scale: float) -> Any:  # type: ignore[override]
        """Return the logits."""
        return super().forward(x, low_level) * scale


class AnyArguments(Broken):
    """Any number of arguments."""

    def forward(self, *inputs: Tensor, **_: Any) -> Any:  # type: ignore[override]
        """Return the logits."""
        return super().forward(*inputs)


class KeywordOnly(Broken):
    """Arguments that must be named."""

    def forward(self, *, x: Tensor, low_level: Tensor) -> Any:  # type: ignore[override]
        """Return the logits."""
        return super().forward(x, low_level)


class WithState(Broken):
    """More state than the decoder needs."""

    def __init__(self, state: str) -> None:
        super().__init__("nowhere", "")
        STATES[state](self)


class Holder(nn.Module):
    """Holds many tensors."""


def many(module: nn.Module) -> None:
    """Add 100,000 tensors."""
    holder = Holder()
    for number in range(100_000):
        holder.register_buffer(f"tensor{number}", torch.zeros(()))
    module.add_module("many", holder)


def buffers(**values: Any) -> Callable[[nn.Module], None]:
    """Return a function that adds buffers."""

    def add(module: nn.Module) -> None:
        for name, value in values.items():
            module.register_buffer(name, value)

    return add


def twice(module: nn.Module) -> None:
    """Register a parameter under another name, and a view of it as a buffer."""
    module.same = module.decoder.logits.conv.weight  # type: ignore[union-attr,assignment]
    module.register_buffer("view", module.same.detach()[0])  # type: ignore[operator,index]


def hook(module: nn.Module) -> None:
    """Raise in a hook of the state dict."""
    module._register_state_dict_hook(lambda *_: EFFECTS["ValueError"]())


def quantized() -> Tensor:
    """Return a quantized tensor; PyTorch says that there will be none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


STATES: Final[dict[str, Callable[[nn.Module], None]]] = {
    "many": many,
    "line": buffers(**{"a\nb": torch.zeros(1)}),
    "long": buffers(**{"n" * 100_000: torch.zeros(1)}),
    "control": buffers(**{"\x1b[31m<script>": torch.zeros(1)}),
    "surrogate": buffers(**{"\udcff": torch.zeros(1)}),
    "dtypes": buffers(a=torch.arange(3), b=torch.tensor([True]), c=torch.zeros(2, dtype=torch.complex64)),
    "sparse": buffers(a=torch.eye(3).to_sparse()),
    "float8": buffers(a=torch.zeros(3).to(torch.float8_e5m2)),
    "quantized": buffers(a=quantized()),
    "expanded": buffers(a=torch.zeros(1).expand(2**20, 2**20)),
    "meta": buffers(a=torch.zeros(3, device="meta")),
    "nan": buffers(a=torch.tensor([float("nan")])),
    "lazy": lambda module: module.add_module("lazy", nn.LazyLinear(3)),
    "twice": twice,
    "hook": hook,
}

KINDS: Final = {kind.__name__: kind for kind in (Broken, Silent, Called, ExtraArgument, AnyArguments, KeywordOnly)}


def build(place: str = "nowhere", thing: str = "", kind: str = "Broken") -> nn.Module:
    """Build a decoder that does a thing at a place."""
    return KINDS[kind](place, thing)


def with_state(state: str) -> nn.Module:
    """Build a decoder with other state."""
    return WithState(state)


class Whole(nn.Module):
    """A whole network whose logits are changed."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.network = build_network("notebook", 16, 21, SMALL)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of another size."""
        logits: Tensor = self.network(image)
        step = {"quarter": 4, "sixteenth": 16}.get(self.how)
        return logits[..., ::step, ::step] if step else logits[..., :1, :1]


def whole(how: str) -> nn.Module:
    """Build a whole network whose logits are too small."""
    return Whole(how)
