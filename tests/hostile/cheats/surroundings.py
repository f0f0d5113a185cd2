"""Cheats that look around: at the stack, modules, arguments, the environment, other processes, PyTorch's state."""

import gc
import inspect
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from cheats.base import Cheat, Cheats

CHEATS = Cheats()
WORDS = ("deeplab_spec", "certify", "judge", "candidate", "supervis", "Host", "pytest", "conforms")


def mentioned(text: str) -> bool:
    """Tell whether a text has a word of the judge."""
    return any(word in text for word in WORDS)


def frames() -> Iterator[FrameType]:
    """Yield the frames that called the network."""
    frame: FrameType | None = sys._getframe(2)
    while frame:
        if frame.f_globals.get("__name__") not in {"cheats.base", "cheats.surroundings"}:
            yield frame
        frame = frame.f_back


def process_text(process: int | str, name: str) -> str:
    """Return a file that describes a process, as text."""
    return Path(f"/proc/{process}/{name}").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


@CHEATS.right_where
def files_of_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    return any("deeplab_spec" in entry.filename or "candidate" in entry.filename for entry in inspect.stack(0)[2:])


@CHEATS.right_where
def functions_of_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    own = {"forward", "_call_impl", "_wrapped_call_impl", "inner", "<module>"}
    return any(entry.function not in own for entry in inspect.stack(0)[2:])


@CHEATS.right_where
def depth_of_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    return len(list(frames())) > 4


@CHEATS.right_where
def names_in_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    return any(
        {"Host", "serve", "requests", "answers", "settings"} & {*frame.f_globals, *frame.f_locals} for frame in frames()
    )


@CHEATS.right_where
def objects_in_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    return any(
        type(value).__name__ in {"Host", "Files", "generator"}
        for frame in frames()
        for value in frame.f_locals.values()
    )


@CHEATS.right_where
def stacks_of_other_threads(_cheat: Cheat, _image: Tensor) -> bool:
    return len(sys._current_frames()) > 1 or threading.active_count() > 1


@CHEATS.right_where
def another_thread_than_the_main_one(_cheat: Cheat, _image: Tensor) -> bool:
    return threading.current_thread() is not threading.main_thread()


@CHEATS.right_where
def modules_of_the_package(_cheat: Cheat, _image: Tensor) -> bool:
    return any(name.startswith(("deeplab_spec.judge", "deeplab_spec.cli", "pytest")) for name in sys.modules)


@CHEATS.right_where
def names_in_main(_cheat: Cheat, _image: Tensor) -> bool:
    return bool({"Host", "serve", "Files", "supervise", "main"} & set(vars(sys.modules["__main__"])))


@CHEATS.right_where
def many_names_in_main(_cheat: Cheat, _image: Tensor) -> bool:
    names = {name for name in vars(sys.modules["__main__"]) if not name.startswith("__")}
    return len(names) > 3


@CHEATS.right_where
def objects_in_memory(_cheat: Cheat, _image: Tensor) -> bool:
    named = ("Host", "serve", "do_call", "Files")
    return any(
        getattr(value, "__name__", type(value).__name__) in named
        for value in gc.get_objects()
        if type(value).__module__ in {"__main__", "builtins"}
    )


@CHEATS.right_where
def arguments(_cheat: Cheat, _image: Tensor) -> bool:
    return mentioned(" ".join(sys.argv)) or len(sys.argv) > 1


@CHEATS.right_where
def original_arguments(_cheat: Cheat, _image: Tensor) -> bool:
    return mentioned(" ".join(sys.orig_argv)) or len(sys.orig_argv) > 5


@CHEATS.right_where
def command_line(_cheat: Cheat, _image: Tensor) -> bool:
    return mentioned(process_text("self", "cmdline"))


@CHEATS.right_where
def command_line_of_the_parent(_cheat: Cheat, _image: Tensor) -> bool:
    return mentioned(process_text(os.getppid(), "cmdline"))


@CHEATS.right_where
def name_of_the_process(_cheat: Cheat, _image: Tensor) -> bool:
    return not process_text("self", "comm").startswith(("python", "pt_main_thread"))


@CHEATS.right_where
def environment_variables(_cheat: Cheat, _image: Tensor) -> bool:
    return any(mentioned(name) or name.startswith(("DEEPLAB", "CANDIDATE")) for name in os.environ)


@CHEATS.right_where
def environment_unlike_at_the_start(_cheat: Cheat, _image: Tensor) -> bool:
    started = dict(entry.split("=", 1) for entry in Path("/proc/self/environ").read_text().split("\0") if "=" in entry)
    return started != dict(os.environ)


@CHEATS.right_where
def environment_unlike_the_parents(_cheat: Cheat, _image: Tensor) -> bool:
    return process_text("self", "environ") != process_text(os.getppid(), "environ")


@CHEATS.right_where
def variable_of_sleeping_threads(_cheat: Cheat, _image: Tensor) -> bool:
    return "OMP_WAIT_POLICY" in os.environ or "OMP_WAIT_POLICY" in process_text("self", "environ")


@CHEATS.right_where
def seed_of_the_call(_cheat: Cheat, _image: Tensor) -> bool:
    return torch.initial_seed() < 2**32


@CHEATS.right_where
def state_of_the_random_numbers(_cheat: Cheat, _image: Tensor) -> bool:
    return bool((torch.get_rng_state() == torch.Generator().manual_seed(0).get_state()).all())


@CHEATS.right_where
def hooks_of_all_modules(_cheat: Cheat, _image: Tensor) -> bool:
    registry = torch.nn.modules.module
    return bool(registry._global_forward_hooks or registry._global_forward_pre_hooks)


@CHEATS.right_where
def modes_of_functions(_cheat: Cheat, _image: Tensor) -> bool:
    return torch._C._len_torch_function_stack() > 0 or torch._C._len_torch_dispatch_stack() > 0


@CHEATS.right_where
def never_but_under_export(_cheat: Cheat, _image: Tensor) -> bool:
    return torch.compiler.is_exporting()


@CHEATS.right_where
def compiling(_cheat: Cheat, _image: Tensor) -> bool:
    return torch.compiler.is_compiling() or torch.compiler.is_dynamo_compiling() or torch.jit.is_tracing()


@CHEATS.right_where
def fake_tensors(_cheat: Cheat, image: Tensor) -> bool:
    return isinstance(image, FakeTensor) or type(image) is not Tensor or image.is_meta


@CHEATS.right_where
def export_in_the_stack(_cheat: Cheat, _image: Tensor) -> bool:
    return any("export" in frame.f_code.co_filename for frame in frames())
