"""Runs a candidate: builds it, and does what it is told over a pipe. It decides nothing.

This file stands alone, so that it runs in the candidate's own environment: it needs the standard library of Python 3.9
and PyTorch 2.4, or later ones. It is never imported in the candidate's process: its text arrives over the pipe, and so
does every request, as one line of JSON with one line as its answer. Tensors travel as files of raw bytes.

A candidate may patch what it can reach. So what is done with its results is bound before it is imported: functions of
PyTorch's base classes in C, and a copy of ``json`` that it does not see. Its code is called by the main program, see
:func:`serve`: no function of this file is on the stack, and none of its objects is listed by ``gc``, while that runs.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import gc
import importlib
import importlib.util
import inspect
import io
import linecache
import logging
import math
import mmap
import operator
import os
import sys
import traceback
import warnings
from ctypes import c_char
from functools import lru_cache, partial
from hashlib import blake2b
from io import BufferedReader, BufferedWriter, FileIO

import torch
from torch import nn
from torch._C import DisableTorchFunction, TensorBase
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

PLAIN = (torch.Tensor, nn.Parameter)
"""The types of tensors that are returned: methods of a subclass may show other numbers than those in its memory."""


def private(name):
    """Import another copy of a module of the standard library, which no other module has."""
    kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == name}
    module = importlib.import_module(name)
    for key in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[key]
    sys.modules.update(kept)
    return module


json = private("json")


def size_in_bytes(tensor):
    """Return the bytes of a tensor's elements."""
    return TensorBase.numel(tensor) * TensorBase.element_size(tensor)


def raw(tensor):
    """Return the bytes of a contiguous tensor on the CPU, as a buffer to read from or to write to while it lives."""
    return (c_char * size_in_bytes(tensor)).from_address(TensorBase.data_ptr(tensor))


def plain(tensor):
    """Return a tensor as contiguous numbers on the CPU."""
    with DisableTorchFunction():
        for step in (TensorBase.detach, TensorBase.cpu, TensorBase.resolve_conj, TensorBase.resolve_neg):
            tensor = step(tensor)
        return TensorBase.contiguous(tensor)


def digest(tensors):
    """Return a digest of the names and numbers of tensors."""
    total = blake2b()
    for name, tensor in tensors.items():
        numbers = plain(tensor)
        total.update(f"{name} {dtype_name(numbers)} {list(TensorBase.size(numbers))}".encode("utf-8", "replace"))
        total.update(raw(numbers) if size_in_bytes(numbers) else b"")
    return total.digest()


def dtype_name(tensor):
    """Return the name of a tensor's dtype, e.g. ``float32``."""
    return str(tensor.dtype).replace("torch.", "")


MOST_BYTES = 2**33

DTYPES = {
    *("float64", "float32", "bfloat16", "float16"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
}
"""The dtypes of the tensors that are sent."""


class Files:
    """Sends and receives tensors as files of raw bytes in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    def pack(self, tensors, *, digest=False):
        """Write tensors to a new file; return its name, and the name, dtype, shape and strides of each.

        With a digest of the file, so that it cannot be changed before it is read.
        """
        self.count += 1
        name = f"{os.getpid()}-{self.count}"
        if sum(map(size_in_bytes, tensors.values())) > MOST_BYTES:
            raise Refused(f"it has more than {MOST_BYTES} bytes of tensors")
        entries, total = [], blake2b()
        with BufferedWriter(FileIO(os.path.join(self.folder, name), "x")) as file:
            for key, tensor in tensors.items():
                numbers = plain(tensor)
                if size_in_bytes(numbers):
                    file.write(raw(numbers))
                    total.update(raw(numbers)) if digest else None
                entries.append(
                    [key, dtype_name(numbers), list(TensorBase.size(tensor)), list(TensorBase.stride(tensor))]
                )
        return {"file": name, "tensors": entries, **({"digest": total.hexdigest()} if digest else {})}

    def unpack(self, packed):
        """Read tensors, with their strides, and remove their file."""
        path = os.path.join(self.folder, packed["file"])
        tensors = {}
        with BufferedReader(FileIO(path)) as file:
            for key, dtype, shape, strides in packed["tensors"]:
                plain = torch.empty(shape, dtype=getattr(torch, dtype), device="cpu")
                if plain.numel():
                    file.readinto(raw(plain))
                if list(plain.stride()) != strides and plain.numel():
                    plain = torch.empty_strided(shape, strides, dtype=plain.dtype, device="cpu").copy_(plain)
                tensors[key] = plain
        os.remove(path)
        return tensors

    def mapped(self, packed):
        """Return contiguous tensors to copy from, which are in the memory of their file, and remove its name."""
        path = os.path.join(self.folder, packed["file"])
        tensors, start = {}, 0
        with FileIO(path) as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if os.fstat(file.fileno()).st_size else b""
        for key, dtype, shape, _ in packed["tensors"]:
            kind = getattr(torch, dtype)
            end = start + math.prod(shape) * kind.itemsize
            aligned = start % kind.itemsize == 0
            source, offset = (memory, start) if aligned else (bytearray(memory[start:end]), 0)
            tensors[key] = torch.empty(shape, dtype=kind, device="cpu")
            if end > start:
                numbers = torch.frombuffer(source, dtype=kind, count=math.prod(shape), offset=offset)
                tensors[key] = numbers.view(shape)
            start = end
        os.remove(path)
        return tensors


def one_line(error):
    """Return an error's type and the first line of its text; the text may fail, or be endless."""
    name = str(type(error).__name__)[:100]
    try:
        lines = [line.strip() for line in str(error)[:10_000].splitlines() if line.strip()]
    except BaseException:  # the text is made by foreign code, which may raise anything
        return f"{name}, which has no text"
    text = f"{name}: {lines[0]}" if lines else name
    return text if len(text) <= 300 else f"{text[:297]}..."


LIBRARY = os.path.dirname(torch.__file__)


def foreign_line(error):
    """Return the deepest line outside of PyTorch that an error came through; empty if no file has one."""
    found = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if os.path.isfile(name) and not name.startswith(LIBRARY) and name != globals().get("__file__"):
            line = linecache.getline(name, number).strip()[:100]
            found = f" (at {os.path.basename(name)}:{number}: {line})"
    return found


# Foreign code is called by the runner of these steps: a function that is a generator yields each call to make, gets
# what the call returned, and returns its own result.


def finish(steps):
    """Make the calls of steps here; return their result."""
    call, outcome = steps.send, None
    while True:
        try:
            foreign = call(outcome)
        except StopIteration as end:
            return end.value
        try:
            call, outcome = steps.send, foreign()
        except BaseException as error:
            call, outcome = steps.throw, error


# Building


def find(module_name, attribute, search):
    """Return an attribute of a module, or of a Python file, in steps; the search folders are searched last."""
    for folder in search:
        if folder not in sys.path:
            sys.path.append(folder)
    if module_name.endswith(".py"):
        name = os.path.splitext(os.path.basename(module_name))[0]
        sys.path.append(os.path.dirname(os.path.abspath(module_name)))
        spec = importlib.util.spec_from_file_location(name, module_name)
        value = importlib.util.module_from_spec(spec)
        sys.modules[name] = value
        yield partial(spec.loader.exec_module, value)
    else:
        value = yield partial(importlib.import_module, module_name)
    for step in attribute.split("."):
        value = yield partial(getattr, value, step, MISSING)
        if value is MISSING:
            raise Refused(f"module {module_name!r} has no attribute {attribute!r}")
    return value


MISSING = object()


def spread(seed):
    """Return a seed as large as that of a process which sets none, so that it looks the same while it builds."""
    return int.from_bytes(blake2b(str(seed).encode(), digest_size=8).digest(), "big")


class Refused(Exception):
    """A request that cannot be fulfilled; its text is the whole answer."""


def call_factory(factory, texts, filled):
    """Call a factory with arguments, each a Python literal or text, in steps; a module is returned as it is.

    The output stride and the classes are passed where the signature has these names.
    """
    if issubclass(type(factory), nn.Module):
        return factory
    if not callable(factory):
        raise Refused(f"must be callable, but is a {type(factory).__name__}")
    arguments = {}
    for name, text in texts.items():
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            arguments[name] = text
    try:
        names = (yield partial(inspect.signature, factory)).parameters
    except (TypeError, ValueError):
        names = {}
    for name, value in filled.items():
        if name in names:
            arguments.setdefault(name, value)
    try:
        module = yield partial(factory, **arguments)
    except BaseException as error:
        raise Refused(f"cannot be built: {one_line(error)}") from error
    if not issubclass(type(module), nn.Module):
        raise Refused(f"must return a torch.nn.Module, but returned a {type(module).__name__}")
    return module


class Program(nn.Module):
    """A program that was read from a file: calls of PyTorch's operators, made one after the other."""

    def __init__(self, document, tensors):
        super().__init__()
        self.document = document
        self.names = {name: f"tensor{number}" for number, name in enumerate(tensors)}
        for name, attribute in self.names.items():
            self.register_buffer(attribute, tensors[name])

    def state(self):
        return {name: getattr(self, attribute) for name, attribute in self.names.items()}

    def forward(self, *inputs):
        state, values, waiting = self.state(), {}, list(inputs)
        for entry in self.document["inputs"]:
            if entry["state"] is not None:
                values[entry["name"]] = state[entry["state"]]
            else:
                values[entry["name"]] = waiting.pop(0) if entry["shape"] is not None else entry["value"]
        device = next(iter(state.values()), inputs[0]).device
        for node, done in zip(self.document["nodes"], last_uses(self.document)):
            arguments = [decoded(value, values.__getitem__, device) for value in node["args"]]
            named = {key: decoded(value, values.__getitem__, device) for key, value in node["kwargs"].items()}
            values[node["name"]] = resolve(node["target"])(*arguments, **named)
            for name in done:
                del values[name]
        results = {path: decoded(value, values.__getitem__, device) for path, value in self.document["results"]}
        return results[""] if list(results) == [""] else results


def last_uses(document):
    """Return, for each call of a program, the values that no later call uses."""
    seen = {value["node"] for _, value in document["results"] if isinstance(value, dict) and "node" in value}
    done = []
    for node in reversed(document["nodes"]):
        used = set(names_in([node["args"], list(node["kwargs"].values())])) | {node["name"]}
        done.append(sorted(used - seen))
        seen |= used
    return done[::-1]


def names_in(value):
    """Yield the values that encoded arguments name."""
    if isinstance(value, list):
        for item in value:
            yield from names_in(item)
    elif isinstance(value, dict):
        yield from [value["node"]] if "node" in value else names_in(value.get("list", []))


class Session(nn.Module):
    """An ONNX file, run by onnxruntime."""

    def __init__(self, model, threads):
        super().__init__()
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )

    def forward(self, *inputs):
        names = [value.name for value in self.session.get_inputs()]
        feeds = {name: value.contiguous().numpy() for name, value in zip(names, inputs)}
        values = [torch.from_numpy(value) for value in self.session.run(None, feeds)]
        outputs = [value.name for value in self.session.get_outputs()]
        return values[0] if len(values) == 1 else dict(zip(outputs, values))


# Exported programs, as plain JSON


def encoded(value):
    """Return an argument of an operator as JSON."""
    if isinstance(value, torch.fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, tuple)):
        return {"list": [encoded(item) for item in value]}
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return {"torch": str(value).replace("torch.", "")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Refused(f"an operator has an argument of type {type(value).__name__}, which is not read")


def decoded(value, node, device=None):
    """Return an argument of an operator from JSON.

    Args:
        value: The encoded argument.
        node: Returns the value of a node by its name.
        device: Replaces every device, if given.
    """
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return node(content)
    if kind == "list":
        return [decoded(item, node, device) for item in content]
    if kind == "device":
        return torch.device(content) if device is None else device
    return float(content) if kind == "float" else getattr(torch, content)


CHECKS = {
    *("_assert_tensor_metadata", "_assert_scalar", "_assert_async"),
    *("sym_constrain_range", "sym_constrain_range_for_size"),
}
"""Operators with which an exporter checks its assumptions; they compute nothing."""

MODULES = {"_operator": operator, "operator": operator, "math": math, "torch": torch}
"""Modules of the functions on sizes that programs call, beside PyTorch's operators."""


def resolve(target):
    """Return the function that a program names, e.g. ``aten.conv2d.default`` or ``_operator.getitem``."""
    first, *rest = target.split(".")
    value = MODULES.get(first)
    if value is None:
        value = getattr(torch.ops, first)
    for step in rest:
        value = getattr(value, step)
    return value


def target_name(target):
    """Return the name of a function that a program calls."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', type(target).__name__)}"


def program_document(program):
    """Return an exported program as plain JSON: its inputs, calls and results."""
    specs = {getattr(spec.arg, "name", ""): spec for spec in program.graph_signature.input_specs}
    inputs, nodes = [], []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            inputs.append(_input(node, specs[node.name]))
        elif node.op == "call_function" and getattr(node.target, "overloadpacket", node.target).__name__ not in CHECKS:
            nodes.append(_node(node))
        elif node.op == "get_attr":
            raise Refused(f"the graph holds a nested program at {node.name}")
    (returned,) = next(iter(reversed(program.graph.nodes))).args
    specs = program.graph_signature.output_specs
    own = [value for value, spec in zip(returned, specs) if spec.kind.name == "USER_OUTPUT"]
    tree = pytree.tree_unflatten([encoded(value) for value in own], program.call_spec.out_spec)
    flat = pytree.tree_flatten_with_path(tree, is_leaf=lambda value: isinstance(value, dict) and "node" in value)[0]
    results = [["".join(map(str, keys)), value] for keys, value in flat if value is not None]
    return {"inputs": inputs, "nodes": nodes, "results": results}


def _input(node, spec):
    kind = spec.kind.name
    value = node.meta.get("val")
    if kind not in {"USER_INPUT", "PARAMETER", "BUFFER", "CONSTANT_TENSOR"}:
        raise Refused(f"the program has an input that is not read: {kind.lower()}")
    tensor = isinstance(value, torch.Tensor)
    return {
        "name": node.name,
        "state": None if kind == "USER_INPUT" else (spec.target or node.name),
        "shape": [side if isinstance(side, int) else None for side in value.shape] if tensor else None,
        "dtype": dtype_name(value) if tensor else None,
        "value": None if tensor else encoded(value),
    }


def _node(node):
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "name": node.name,
        "target": target_name(node.target),
        "args": [encoded(value) for value in node.args],
        "kwargs": {key: encoded(value) for key, value in node.kwargs.items()},
        "module": [str(path), kind],
        "within": [str(module) for module, _ in stack],
    }


TALKATIVE = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
"""Loggers that print what an export raises too."""


@contextlib.contextmanager
def quiet_export():
    """Export without a stack trace for every call, and without printing errors that are raised too."""
    loggers, config = [logging.getLogger(name) for name in TALKATIVE], torch.fx.config
    before, traces = [logger.disabled for logger in loggers], getattr(config, "do_not_emit_stack_traces", None)
    for logger in loggers:
        logger.disabled = True
    if traces is not None:
        config.do_not_emit_stack_traces = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled
        if traces is not None:
            config.do_not_emit_stack_traces = traces


# Calls


@contextlib.contextmanager
def quiet_traces(parts):
    """Keep ``torch.fx`` from printing the errors that a traced module raises too.

    What it prints with is replaced by a function in C, which leads to no object of this file.
    """
    traced = any(issubclass(type(part), torch.fx.GraphModule) for _, part in parts)
    names = vars(torch.fx.graph_module) if traced else {}
    names["print"] = "".format  # takes what ``print`` takes
    try:
        yield
    finally:
        names.pop("print", None)


ROUNDED = {
    torch.ops.aten.convolution.default: (0, 1),
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}
"""The operators of convolutions and matrix products, and the positions of their factors."""


def rounded(value):
    """Round float32 numbers to the ten bits of TF32, ties to even.

    >>> rounded(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])).tolist()
    [1.0, 1.001953125, 1.0009765625]
    """
    bits = value.contiguous().view(torch.int32)
    kept = (bits + 0xFFF + ((bits >> 13) & 1)) >> 13 << 13
    return torch.where(value.isfinite(), kept.view(torch.float32), value)


class RoundedProducts(TorchDispatchMode):
    """Rounds the factors of float32 products, as a device does that computes them in TF32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make one call of an operator."""
        factors = ROUNDED.get(func, ())
        args = [
            rounded(value)
            if number in factors and isinstance(value, torch.Tensor) and value.dtype is torch.float32
            else value
            for number, value in enumerate(args)
        ]
        return func(*args, **(kwargs or {}))


DROPOUTS = {
    torch.nn.functional.dropout: "dropout",
    torch.dropout: "dropout",
    torch.dropout_: "dropout",
    torch.nn.functional.dropout1d: "dropout of whole channels",
    torch.nn.functional.dropout2d: "dropout of whole channels",
    torch.nn.functional.dropout3d: "dropout of whole channels",
    torch.feature_dropout: "dropout of whole channels",
    torch.feature_dropout_: "dropout of whole channels",
    torch.nn.functional.alpha_dropout: "alpha dropout",
    torch.alpha_dropout: "alpha dropout",
    torch.alpha_dropout_: "alpha dropout",
    torch.nn.functional.feature_alpha_dropout: "alpha dropout of whole channels",
}
"""PyTorch's functions of dropout, and the kind of each."""


class WithoutDropout(TorchFunctionMode):
    """Replaces every call of PyTorch's dropout by the identity, and records it with the module that made it."""

    def __init__(self, parts):
        super().__init__()
        self.names = {part: name for name, part in parts}
        self.within = []
        self.calls = []
        self.values = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of PyTorch, unless it is dropout."""
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        active = "training" if func.__module__ == "torch.nn.functional" else "train"
        named = {**dict(zip(("input", "p", active), args)), **kwargs}
        probability = float(named.get("p", 0.5))
        if named.get(active, True) and probability > 0:
            self.calls.append([DROPOUTS[func], probability, self.within[-1] if self.within else ""])
            self.values.append(named["input"].detach().clone())
        return named["input"]

    @contextlib.contextmanager
    def recording(self):
        """Record, and track which module is running."""

        def enter(module, _):
            self.within.append(self.names.get(module, ""))

        def leave(_, __, ___):
            self.within.pop()

        registry = torch.nn.modules.module
        hooks = [
            registry.register_module_forward_pre_hook(enter),
            registry.register_module_forward_hook(leave, always_call=True),
        ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()


def set_products(tf32):
    """Compute float32 products in IEEE float32, or in TF32 on a device that has it; new switches follow the old."""
    backends = torch.backends
    holders = [backends, backends.cudnn, backends.cuda.matmul]
    holders += [getattr(backends.cudnn, name, None) for name in ("conv", "rnn")]
    holders += [getattr(backends.mkldnn, name, None) for name in ("conv", "rnn", "matmul")]
    for holder in holders:
        if hasattr(holder, "fp32_precision"):
            holder.fp32_precision = "none"
    backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = tf32


@contextlib.contextmanager
def threads(number):
    """Use a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def original(module):
    """Return the original of a compiled module; any other module is returned as it is."""
    return module._orig_mod if type(module) is compiled_type() else module


@lru_cache(maxsize=None)
def compiled_type():
    """Return the type of compiled modules; the first call imports the compiler."""
    return torch._dynamo.eval_frame.OptimizedModule


def state_of(module):
    """Return every parameter and buffer by name, including those that are not saved, in steps."""
    if type(module) is Program:
        return module.state()
    module = original(module)
    parameters = yield from listed(module.named_parameters, remove_duplicate=False)
    buffers = yield from listed(module.named_buffers, remove_duplicate=False)
    return {name: tensor for name, tensor in [*parameters, *buffers] if has_numbers(tensor)}


def listed(method, **named):
    """Return what a method iterates over, in steps."""
    return (yield partial(list, (yield partial(method, **named))))


def has_numbers(tensor):
    """Tell whether a tensor has real numbers in memory, one for each element."""
    strided = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
    return strided and tensor.device.type != "meta" and dtype_name(tensor) in DTYPES


class Host:
    """Holds candidates by number, and answers requests.

    Args:
        transport: Packs and unpacks tensors.
    """

    def __init__(self, transport):
        self.transport = transport
        self.modules = {}
        self.results = {}

    def answer(self, request):
        """Do what a request says, in this place."""
        return finish(self.steps(request))

    def steps(self, request):
        """Do what a request says, in steps; an error of foreign code is an answer."""
        method = getattr(self, f"do_{request['do']}")
        try:
            return (yield from method(**{key: value for key, value in request.items() if key != "do"}))
        except Refused as refused:
            return {"error": str(refused)[:2000]}
        except BaseException as error:
            return {"error": one_line(error)}

    def do_versions(self):
        """Say which Python and PyTorch run here."""
        yield from ()
        return {"python": ".".join(map(str, sys.version_info[:3])), "torch": str(torch.__version__)}

    def do_build(self, to, seed, module, attribute, texts, filled, search):
        """Import a callable, and build a candidate with it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spread(seed))
            try:
                factory = yield from find(module, attribute, search)
            except Refused:
                raise
            except BaseException as error:
                raise Refused(f"cannot import {module!r}: {one_line(error)}") from error
            self.modules[to] = yield from call_factory(factory, texts, filled)
        return {}

    def do_build_program(self, to, document, tensors):
        """Hold a program that was read from a file."""
        yield from ()
        self.modules[to] = Program(document, self.transport.unpack(tensors))
        return {}

    def do_build_session(self, to, model, threads):
        """Hold a file that onnxruntime runs."""
        yield from ()
        content = self.transport.unpack(model)["model"]
        self.modules[to] = Session(bytes(raw(content)), threads)
        return {}

    def do_state(self, on):
        """List the parameters and buffers: equal numbers mark one tensor under several names."""
        module = original(self.modules[on])
        parameters = yield from listed(module.named_parameters, remove_duplicate=False)
        trained = {name: bool(tensor.requires_grad) for name, tensor in parameters}
        state = yield from state_of(self.modules[on])
        try:
            saved = set((yield partial(module.state_dict, keep_vars=True)))
        except BaseException:  # what it cannot save is found out where that is judged
            saved = set(state)
        known, entries = {}, []
        for name, tensor in state.items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride())) if tensor.numel() else (name,)
            same = known.setdefault(key, len(known))
            entries.append([name, name in trained, trained.get(name, False), name in saved, same])
        return {"state": entries}

    def do_read(self, on, names):
        """Return parameters and buffers; all if no names are given."""
        state = yield from state_of(self.modules[on])
        return {"tensors": self.transport.pack({name: state[name] for name in (state if names is None else names)})}

    def do_load(self, on, tensors, dtype, device):
        """Convert a candidate to a dtype, move it to a device, and copy tensors into it."""
        module = original(self.modules[on])
        if dtype is not None:
            yield partial(module.to, getattr(torch, dtype))
        yield partial(module.to, device)
        state = yield from state_of(module)
        with torch.no_grad():
            for tensor in state.values() if dtype is not None else ():
                if tensor.is_floating_point() and dtype_name(tensor) != dtype:  # the module does not convert it
                    tensor.data = tensor.data.to(getattr(torch, dtype))
            for name, tensor in self.transport.mapped(tensors).items():
                if state[name].dtype == tensor.dtype:
                    yield partial(state[name].copy_, tensor)
                else:
                    state[name].data = tensor.to(device, copy=True)
        return {}

    def do_copy(self, on, to):
        """Copy a candidate deeply."""
        self.modules[to] = yield partial(copy.deepcopy, self.modules[on])
        return {}

    def do_reload(self, on, to):
        """Save the state of a candidate, and load it into another build of it."""
        saved = io.BytesIO()
        torch.save((yield original(self.modules[on]).state_dict), saved)
        saved.seek(0)
        yield partial(original(self.modules[to]).load_state_dict, torch.load(saved, weights_only=True))
        return {}

    def do_drop(self, on):
        """Forget a candidate."""
        yield from ()
        self.modules.pop(on, None)
        return {}

    def do_export(self, on, inputs, decompose):
        """Export the graph of a candidate in evaluation, at the size of inputs."""
        module = original(self.modules[on])
        yield module.eval
        arguments = tuple(self.transport.unpack(inputs).values())
        try:
            with torch.no_grad(), quiet_export(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = yield partial(torch.export.export, module, arguments, strict=False)
                program = program.run_decompositions({}) if decompose else program
                gc.collect()
        except BaseException as error:
            raise Refused(f"torch.export refused the module: {one_line(error)}{foreign_line(error)}") from error
        constants = {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}
        return {"program": program_document(program), "constants": self.transport.pack(constants)}

    def do_call(self, on, inputs, settings):
        """Call a candidate; the answer has the tensors that it returned by their place in what it returned.

        Several calls also have the tensors of those before the last, equal ones once.

        Settings: ``train``; ``gradients`` (``off``, ``on`` or ``inference``); ``original``, to call what was compiled;
        ``autocast``, a dtype; ``tf32``; ``rounded``, to emulate TF32; ``seed``; ``dropout``, ``False`` to replace it
        and to record its calls; ``hold``, to keep the results for ``backward``; ``after``, to return the inputs after
        the call; ``repeat``, the number of calls; ``device`` and ``threads``.
        """
        module = self.modules[on]
        module = original(module) if settings["original"] else module
        arguments = [value.to(settings["device"]) for value in self.transport.unpack(inputs).values()]
        yield partial(module.train, settings["train"])
        self.results = {}
        parts = yield from listed(original(module).named_modules)
        dropout = None if settings["dropout"] else WithoutDropout(parts)
        set_products(settings["tf32"])
        with contextlib.ExitStack() as stack:
            stack.enter_context(threads(settings["threads"]))
            stack.enter_context(quiet_traces(parts))
            if settings["seed"] is not None:
                stack.enter_context(torch.random.fork_rng(devices=[]))
                torch.manual_seed(settings["seed"])
            if settings["gradients"] == "inference":
                stack.enter_context(torch.inference_mode())
            else:
                stack.enter_context(torch.set_grad_enabled(settings["gradients"] == "on"))
            if settings["autocast"]:
                dtype = getattr(torch, settings["autocast"])
                stack.enter_context(torch.autocast(settings["device"], dtype, cache_enabled=False))
            if settings["rounded"]:
                stack.enter_context(RoundedProducts())
            if dropout:
                stack.enter_context(dropout.recording())
            distinct = {}
            for _ in range(settings["repeat"] - 1):
                returned = yield from self._named((yield partial(module, *arguments)))
                distinct.setdefault(digest(returned), returned)
            returned = yield partial(module, *arguments)
        places = type(module) is Program and isinstance(returned, dict)
        found = returned if places else (yield from self._named(returned))
        self.results = found if settings["hold"] else {}
        if settings["train"] and not settings["hold"]:
            yield partial(module.train, mode=False)
        kind = type(returned).__name__
        if isinstance(returned, torch.Tensor) and not has_numbers(returned):
            kind += " without real numbers in memory"
        answer = {"returned": kind, "results": self.transport.pack(found, digest=True)}
        if dropout:
            answer["dropouts"] = dropout.calls
            kept = dropout.values if settings["hold"] else []
            answer["dropped"] = self.transport.pack({str(number): value for number, value in enumerate(kept)})
        answer["distinct"] = [self.transport.pack(earlier, digest=True) for earlier in distinct.values()]
        if settings["after"]:
            answer["after"] = self.transport.pack({str(number): value for number, value in enumerate(arguments)})
        return answer

    @staticmethod
    def _named(returned):
        """Return the tensors of a returned value that have numbers in memory, by their place in it, in steps.

        Each is read by its place, as a caller reads it.
        """
        found = {}
        for keys, _ in (yield partial(pytree.tree_flatten_with_path, returned))[0]:
            value = returned
            for key in keys:
                value = yield partial(key.get, value)
            if type(value) in PLAIN and has_numbers(value):
                found["".join(map(str, keys))] = value
        return found

    def do_backward(self, on, cotangents):
        """Run the backward pass of the held results, weighted; return the gradients of the parameters."""
        module = original(self.modules[on])
        yield partial(module.zero_grad, set_to_none=True)
        held, self.results = self.results, {}
        weights = self.transport.unpack(cotangents)
        with torch.enable_grad():
            sums = [(held[name] * weight.to(held[name].device)).sum() for name, weight in weights.items()]
            total = torch.stack(sums).sum()
        kinds = torch.nn.modules.dropout._DropoutNd
        active = [part for part in (yield from listed(module.modules)) if isinstance(part, kinds) and part.training]
        if total.requires_grad:
            for part in active:  # a checkpoint runs them again in the backward pass
                part.eval()
            with threads(1 if total.dtype is torch.float64 else torch.get_num_threads()):
                yield total.backward
            for part in active:
                part.train()
        parameters = dict((yield from listed(module.named_parameters, remove_duplicate=False)))
        gradients = {name: value.grad for name, value in parameters.items() if value.grad is not None}
        yield partial(module.train, mode=False)
        return {"gradients": self.transport.pack(gradients)}

    def do_step(self, on, rate):
        """Take a step of gradient descent with the gradients of the last backward pass."""
        parameters = yield from listed(original(self.modules[on]).parameters)
        torch.optim.SGD(parameters, lr=rate).step()
        yield partial(original(self.modules[on]).zero_grad, set_to_none=True)
        return {}


CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""A variable that PyTorch's compiler sets: a program that does not use it does not have it."""


def sealed(answer, key):
    """Return an answer as text, and the seal of that text: a digest that cannot be made without the key."""
    text = json.dumps(answer)
    return {"text": text, "seal": blake2b(text.encode(), key=key).hexdigest()}


def serve(requests, answers, folder, key, main):
    """Answer requests, one line each, until there are no more.

    Yields each call of foreign code to the main program, which leaves what it returned or raised in its variables.

    Args:
        requests: The file that requests are read from.
        answers: The file that answers are written to.
        folder: The folder of tensors.
        key: What answers are sealed with.
        main: The variables of the main program.
    """
    host, kept = Host(Files(folder)), CACHE in os.environ
    compiled_type()
    answers.write(json.dumps(host.answer({"do": "versions"})) + "\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        number = request.pop("id")
        steps = host.steps(request)
        continued, outcome = steps.send, None
        while True:
            try:
                call = continued(outcome)
            except StopIteration as end:
                answer = {**end.value, "id": number}
                break
            if not kept:
                os.environ.pop(CACHE, None)
            gc.freeze()
            yield call
            gc.unfreeze()
            if "raised" in main:
                continued, outcome = steps.throw, main.pop("raised")
            else:
                continued, outcome = steps.send, main.pop("output")
            main.pop("call", None)
            del call
        answers.write(json.dumps(sealed(answer, key)) + "\n")
        answers.flush()
