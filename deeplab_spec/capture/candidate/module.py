"""Candidates on this side of the wire: their requests, and a mirror of their parameters and buffers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab_spec.capture.candidate.connection import Answer, Connection, LocalConnection, LostError
from deeplab_spec.capture.candidate.process import finish, original, state_of
from deeplab_spec.capture.capture import CallSettings, Candidate, Capture, Returned
from deeplab_spec.capture.fx.document import Program, read_document
from deeplab_spec.capture.fx.program import PartialAliasError, read_program
from deeplab_spec.child_process import Document
from deeplab_spec.errors import CaptureError, ChildError, TargetError


class RequestError(Exception):
    """A candidate raised an error; the text is one line."""


class Remote:
    """A network behind a connection: built when it is first needed, and again after its process ended.

    Args:
        name: The target as the user named it.
        connection: The connection.
        build: Returns the request that builds it, without its number.

    Attributes:
        number: The number of the network that was built last.
        calls: How often it was called.
    """

    def __init__(self, name: str, connection: Connection, build: Callable[[], Document]) -> None:
        self.name = name
        self.connection = connection
        self.build = build
        self.number = 0
        self.calls = 0
        self._generation = 0
        self._loaded: dict[str, tuple[Tensor, int]] = {}

    def ask(self, do: str, **settings: Any) -> Document:  # noqa: ANN401 - a request's fields are JSON
        """Send a request about this network, and wait for the answer.

        Raises:
            RequestError: If the network raises an error.
            ChildError: If its process ends, or does not answer.
            TargetError: If it cannot be built.
        """
        return answered(self.submit(do, **settings))

    def submit(self, do: str, **settings: Any) -> Answer:  # noqa: ANN401 - as above
        """Send a request about this network without waiting for the answer."""
        self.ready()
        return self.connection.submit({"do": do, "on": self.number, **settings})

    def ready(self) -> None:
        """Build the network, unless it is built in the process that runs now.

        Raises:
            TargetError: If it cannot be built.
            ChildError: If its process ended too often.
        """
        try:
            self.connection.ensure()
        except ChildError as error:
            raise TargetError(self.name, error.reason) from error
        if self._generation == self.connection.generation:
            return
        self.number, self.calls, self._loaded = self.connection.number(), 0, {}
        try:
            answered(self.connection.submit({**self.build(), "to": self.number}))
        except RequestError as error:
            raise TargetError(self.name, str(error)) from error
        except ChildError as error:
            raise TargetError(self.name, f"{error.reason} while it was being built") from error
        self._generation = self.connection.generation

    def rebuild(self) -> None:
        """Build the network again, and forget the one that was built before."""
        if self.number:
            self.drop()
        self._generation = 0
        self.ready()

    def stale(self, tensors: Mapping[str, Tensor]) -> bool:
        """Tell whether the network must get tensors that changed, or must be built."""
        built = self._generation == self.connection.generation
        return not built or any(not _same(self._loaded.get(name), tensor) for name, tensor in tensors.items())

    def second(self, seed: int) -> "Remote":
        """Build the network a second time in the same process, with another seed.

        Raises:
            TargetError: If it cannot be built again.
        """
        other = Remote(self.name, self.connection, lambda: {**self.build(), "seed": seed})
        other.ready()
        return other

    def drop(self) -> None:
        """Forget the network in its process."""
        with suppress(ChildError):
            self.connection.submit({"do": "drop", "on": self.number})

    def copied(self) -> "Remote":
        """Copy the network deeply, in its process.

        Raises:
            RequestError: If it cannot be copied.
        """
        self.ready()
        other = Remote(self.name, self.connection, self.build)
        other.number, other._generation = self.connection.number(), self._generation
        self.ask("copy", to=other.number)
        return other

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Send the tensors that changed since they were sent."""
        self.begin_load(tensors)()

    def begin_load(self, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
        """Send the tensors that changed since they were sent; return a function that waits until they are loaded."""
        self.ready()
        changed = {name: tensor for name, tensor in tensors.items() if not _same(self._loaded.get(name), tensor)}
        answer = self._submit_load(changed, tensors) if changed else None
        self.loaded(tensors)

        def wait() -> None:
            try:
                _ = answer and answered(answer)
            except RequestError:
                self._loaded = {}
                raise

        return wait

    def convert(self, tensors: Mapping[str, Tensor]) -> None:
        """Convert the network to the dtype and device of tensors, which are its own, converted."""
        if len({tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}) == 1:
            self._submit_load({}, tensors)
            self.loaded(tensors)

    def _submit_load(self, changed: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Answer:
        dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        dtype = str(dtypes.pop()).removeprefix("torch.") if len(dtypes) == 1 else None
        device = next(iter(tensors.values())).device.type
        return self.submit("load", tensors=self.connection.pack(changed), dtype=dtype, device=device)

    def loaded(self, tensors: Mapping[str, Tensor]) -> None:
        """Note that the network has these tensors."""
        self._loaded = {name: (tensor, tensor._version) for name, tensor in tensors.items()}  # noqa: SLF001 - counts in-place changes

    def call(self, inputs: Sequence[Tensor], settings: CallSettings) -> Returned:
        """Call the network; what it raises, and how its process ends, is an error in the answer."""
        return self.begin(inputs, settings)()

    def begin(
        self, inputs: Sequence[Tensor], settings: CallSettings, again: Callable[[], Returned] | None = None
    ) -> Callable[[], Returned]:
        """Start a call, and return a function that waits for what it returns; if it is lost, it is made again."""
        try:
            self.ready()
            packed = self.connection.pack({str(number): value for number, value in enumerate(inputs)})
            alone = inputs[0].dtype is torch.float64 or settings.repeat > 1 or inputs[0].numel() < _SHARED
            threads = 1 if alone else torch.get_num_threads()
            device = inputs[0].device.type
            how = {**asdict(settings), "threads": threads, "device": device}
            answer = self.submit("call", inputs=packed, settings=how)
            self.calls += settings.repeat
            generation = self.connection.generation
        except (ChildError, TargetError) as error:
            failed = Returned(error=error.reason)
            return lambda: failed

        def wait() -> Returned:
            try:
                document = answered(answer)
                if generation != self.connection.generation:
                    raise LostError("the process that answered has ended, and its tensors with it")
                return self.called(document, inputs)
            except (RequestError, ChildError) as error:
                return again() if again and isinstance(error, LostError) else Returned(error=str(error))

        return wait

    def called(self, answer: Document, inputs: Sequence[Tensor]) -> Returned:
        """Return what a call returned, on the device of the inputs.

        Raises:
            ChildError: If the answer is malformed.
        """
        place = inputs[0].device
        try:
            kind = str(answer["returned"])[:_LONGEST]
            recorded = answer.get("dropouts", [])
            dropouts = tuple((str(kind), float(rate), str(module)) for kind, rate, module in recorded)
            tensors = self.connection.unpack(answer["results"])
            dropped = self.connection.unpack(answer["dropped"]) if "dropped" in answer else {}
            after = self.connection.unpack(answer["after"]) if "after" in answer else {}
            distinct = tuple(map(self.connection.unpack, answer.get("distinct", [])))
        except (KeyError, TypeError, ValueError) as error:
            raise ChildError("the process sent a malformed answer") from error
        if len(after) not in {0, len(inputs)}:
            raise ChildError("the process sent other inputs than it got")
        return Returned(
            kind=kind,
            tensors={name: value.to(place) for name, value in tensors.items()},
            dropouts=dropouts,
            dropped=tuple(dropped.values()),
            after=tuple(value.to(place) for value in after.values()),
            distinct=tuple({name: value.to(place) for name, value in found.items()} for found in distinct),
        )


_SHARED = 2**18
"""Numbers of an image from which threads share its work: for smaller ones they take longer than one of them."""

_LONGEST = 200
"""Characters of a type's name that are kept."""


def answered(answer: Answer) -> Document:
    """Wait for an answer.

    Raises:
        RequestError: If it is an error.
        ChildError: If there is none.
    """
    document = answer.result()
    if "error" in document:
        text = document["error"] if isinstance(document["error"], str) else "an error without a text"
        raise RequestError("".join(character if character.isprintable() else " " for character in text)[:_ERROR])
    return document


_ERROR = 2000
"""Characters of an error that are kept."""


def _same(sent: tuple[Tensor, int] | None, tensor: Tensor) -> bool:
    return sent is not None and sent[0] is tensor and sent[1] == tensor._version  # noqa: SLF001 - counts in-place changes


def _unloaded(error: Exception) -> Returned:
    return Returned(error=f"its weights cannot be loaded: {error}")


class ModuleCandidate(Candidate):
    """A PyTorch module behind a connection.

    Args:
        remote: Its requests.

    Attributes:
        parameter_names: Names of the parameters, in order.
        trained: Names of the parameters that require gradients.
        saved_names: Names of the tensors in the state dict.
        copyable: Whether it is not known that it cannot be copied deeply.
        exercised: How often it was called after the calls that were started, and what waits for their results.
    """

    kind = "module"

    def __init__(self, remote: Remote) -> None:
        remote.ready()
        super().__init__(remote.name, (), {})
        self.remote = remote
        self.parameter_names: tuple[str, ...] = ()
        self.trained: frozenset[str] = frozenset()
        self.saved_names: frozenset[str] = frozenset()
        self.copyable = True
        self.exercised: tuple[int, Callable[[], Returned]] | None = None
        if reason := self.refresh():
            raise TargetError(self.name, reason)

    def refresh(self, names: Sequence[str] | None = None) -> str:
        """Read the parameters and buffers; those of some names, or all. Return why they cannot be read, or nothing."""
        return self.begin_refresh(names)()

    def begin_refresh(self, names: Sequence[str] | None = None) -> Callable[[], str]:
        """Ask for parameters and buffers; return a function that reads them, and says why they cannot be read."""
        try:
            asked = self.remote.submit("read", names=names)
        except (ChildError, TargetError) as error:
            unread = f"its state cannot be read: {error.reason}"
            return lambda: unread

        def read() -> str:
            try:
                tensors = self.remote.connection.unpack(answered(asked)["tensors"])
                if names is None:
                    self.tensors = self._tied(tensors)
                else:
                    with torch.no_grad():
                        for name, tensor in tensors.items():
                            self.tensors[name].copy_(tensor)
            except (RequestError, ChildError, TargetError, KeyError, TypeError, ValueError, RuntimeError) as error:
                return f"its state cannot be read: {getattr(error, 'reason', error)}"
            self.remote.loaded(self.tensors)
            return ""

        return read

    def _tied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mirror: names of one tensor share one."""
        found: dict[str, Tensor] = {}
        first: dict[object, Tensor] = {}
        parameters, trained, saved = [], set(), set()
        for name, parameter, gradient, kept, same in self.remote.ask("state")["state"]:
            if name in tensors:
                parameters += [name] if parameter else []
                trained |= {name} if gradient else set()
                saved |= {name} if kept else set()
                found[name] = first.setdefault((same, tensors[name].shape), tensors[name])
        self.parameter_names, self.trained, self.saved_names = tuple(parameters), frozenset(trained), frozenset(saved)
        return found

    @property
    def saved(self) -> dict[str, Tensor]:
        """The tensors that its state dict has."""
        return {name: tensor for name, tensor in self.tensors.items() if name in self.saved_names}

    @property
    def repeatable(self) -> bool:
        """Whether it can be built a second time in its process."""
        return "seed" in self.remote.build()

    def again(self, seed: int) -> "ModuleCandidate":
        """Build it a second time in the same process, with another seed.

        Raises:
            TargetError: If it cannot be built again.
        """
        return ModuleCandidate(self.remote.second(seed))

    def read(self, inputs: Sequence[Tensor]) -> Capture:
        """Read the graph at the size of inputs.

        Raises:
            CaptureError: If the module cannot be exported, or its graph cannot be read.
        """
        try:
            return read_program(self._program(inputs, decompose=False))
        except PartialAliasError:
            pass
        try:
            return read_program(self._program(inputs, decompose=True))
        except PartialAliasError as error:
            raise CaptureError("in-place operations on views cannot be resolved") from error

    def _program(self, inputs: Sequence[Tensor], *, decompose: bool) -> Program:
        connection = self.remote.connection
        try:
            self.send()
            packed = connection.pack({str(number): value for number, value in enumerate(inputs)})
            exported = self.remote.submit("export", inputs=packed, decompose=decompose)
            FakeTensorMode()  # the first one imports the framework's compiler, while the candidate exports
            answer = answered(exported)
            constants = connection.unpack(answer["constants"])
            return read_document(answer["program"], [tuple(value.shape) for value in inputs], self.tensors, constants)
        except (RequestError, ChildError, TargetError, KeyError) as error:
            raise CaptureError(getattr(error, "reason", str(error))) from error

    def call(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Returned:  # noqa: B008 - frozen
        """Call it with its current tensors; what it raises is an error in the answer."""
        return self.begin(inputs, settings)()

    def begin(self, inputs: Sequence[Tensor], settings: CallSettings = CallSettings()) -> Callable[[], Returned]:  # noqa: B008 - frozen
        """Start a call with the current tensors, and return a function that waits for what it returns."""
        try:
            loading = self.begin_send()
        except (ChildError, TargetError) as error:
            return partial(_unloaded, error)
        waiting = self.remote.begin(inputs, settings, partial(self.call, inputs, settings))

        def wait() -> Returned:
            try:
                loading()
            except LostError:
                return self.call(inputs, settings)
            except (RequestError, ChildError) as error:
                return _unloaded(error)
            return waiting()

        return wait

    def exercise(self, inputs: Sequence[Tensor]) -> None:
        """Start most of the calls after which it must still compute the same, before the judge goes on."""
        repeat = self.remote.connection.repetitions * 9 // 10
        self.exercised = self.remote.calls + repeat, self.begin(inputs, CallSettings(repeat=repeat))

    def begin_send(self) -> Callable[[], None]:
        """Send the tensors that changed here; return a function that waits until they are loaded."""
        return self.remote.begin_load(self.tensors)

    def send(self) -> None:
        """Send the tensors that changed here, and wait until they are loaded."""
        self.begin_send()()

    def convert(self, dtypes: Mapping[str, torch.dtype]) -> None:
        """Convert every tensor to a dtype by its name, and send them."""
        super().convert(dtypes)
        self.send()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - the framework's signature
        """Convert the tensors here and, if they are equal there, in the candidate's process."""
        before, equal = self.tensors, not self.remote.stale(self.tensors)
        super()._apply(fn, recurse)
        if equal and any(self.tensors[name] is not tensor for name, tensor in before.items()):
            with suppress(ChildError, TargetError):  # then the tensors are sent
                self.remote.convert(self.tensors)
        return self


class LocalModule(ModuleCandidate):
    """A module of this process: its tensors are the module's own, and nothing is copied."""

    def __init__(self, remote: Remote, module: nn.Module) -> None:
        self._module = (original(module),)  # in a tuple, so that it is no part of this module
        super().__init__(remote)

    def begin_refresh(self, names: Sequence[str] | None = None) -> Callable[[], str]:  # noqa: ARG002 - all are current
        """Return a function that takes the module's tensors, which may be others than before."""

        def read() -> str:
            state = finish(state_of(self._module[0]))
            self.tensors = self._tied({name: tensor.detach() for name, tensor in state.items()})
            return ""

        return read

    def begin_send(self) -> Callable[[], None]:
        """Do nothing: the tensors are the module's own."""
        return lambda: None

    def convert(self, dtypes: Mapping[str, torch.dtype]) -> None:
        """Convert every tensor to a dtype by its name."""
        for name, tensor in finish(state_of(self._module[0])).items():
            tensor.data = tensor.data.to(dtypes[name])
        self.refresh()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 - the framework's signature
        self._module[0]._apply(fn)  # noqa: SLF001 - as a module does with its parts
        self.refresh()
        return self


def local(module: nn.Module, name: str = "") -> ModuleCandidate:
    """Return a module of this process as a candidate; nothing is copied, and nothing separates it from this process."""
    connection = LocalConnection()
    number = connection.number()
    connection.host.modules[number] = module
    remote = Remote(name or type(module).__qualname__, connection, dict)
    remote.number, remote._generation = number, connection.generation  # noqa: SLF001 - it is built already
    return LocalModule(remote, module)
