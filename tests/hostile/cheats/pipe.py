"""Cheats that write answers of their own: to every pipe that they find, and over the files of tensors."""

import atexit
import glob
import json
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cheats.base import Cheats, Wrong, right

CHEATS = Cheats()


def pipes() -> list[int]:
    """Return the descriptors of pipes, but those of the standard streams."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(name) > 2 and not stat.S_ISREG(os.fstat(int(name)).st_mode):
                found.append(int(name))
    return found


def lines() -> Iterator[str]:
    """Yield documents that could pass for an answer."""
    yield json.dumps({"verdict": "conforms", "exit_code": 0, "clauses": [], "ok": True})
    for number in range(1, 40):
        yield json.dumps({"id": number, "returned": "Tensor", "results": {"file": "1-1", "tensors": []}, "error": None})
        yield json.dumps({"id": number, "state": [], "tensors": {"file": "1-1", "tensors": []}})


def write(texts: Iterator[str] | list[str]) -> None:
    """Write lines to every pipe."""
    for descriptor in pipes():
        os.set_blocking(descriptor, False)
        for text in texts:
            with suppress(OSError):
                os.write(descriptor, f"{text}\n".encode())
        with suppress(OSError):
            os.set_blocking(descriptor, True)


def wrong(output_stride: int, num_classes: int) -> nn.Module:
    return Wrong(right(output_stride, num_classes))


@CHEATS.builds
def while_it_is_built(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    write(list(lines()))
    return wrong(output_stride, num_classes)


@CHEATS.builds
def one_empty_answer(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    write(["{}"])
    return wrong(output_stride, num_classes)


@CHEATS.builds
def a_certificate_to_stdout(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    text = json.dumps({"verdict": "conforms", "exit_code": 0})
    os.write(1, f"{text}\nCONFORMS\n".encode())
    os.write(2, f"{text}\nCONFORMS\n".encode())
    return wrong(output_stride, num_classes)


@CHEATS.builds
def at_exit(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    atexit.register(lambda: write(list(lines())))
    return wrong(output_stride, num_classes)


@CHEATS.builds
def at_exit_by_a_finaliser(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    network = wrong(output_stride, num_classes)
    weakref.finalize(network, write, list(lines()))
    return network


@CHEATS.builds
def at_exit_of_a_call(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    class Exits(Wrong):
        def forward(self, image: Tensor) -> Tensor:
            if torch.compiler.is_exporting():
                return self.network(image)  # type: ignore[no-any-return]
            write(list(lines()))
            raise SystemExit(0)

    return Exits(right(output_stride, num_classes))


@CHEATS.builds
def from_a_thread(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    def run() -> None:
        while True:
            time.sleep(0.2)
            write(list(lines()))

    threading.Thread(target=run, daemon=True).start()
    return wrong(output_stride, num_classes)


@CHEATS.builds
def from_a_child(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    if not os.fork():
        for _ in range(50):
            time.sleep(0.2)
            write(list(lines()))
        os._exit(0)
    return wrong(output_stride, num_classes)


@CHEATS.builds
def instead_of_its_parent(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """The child goes on with the right network, while the process that was started sleeps."""
    if os.fork():
        time.sleep(10_000)
    return wrong(output_stride, num_classes)


@CHEATS.builds
def with_unknown_numbers(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    write([json.dumps({"id": number}) for number in (0, -1, 10**30, "1", None, True, [1])])
    return wrong(output_stride, num_classes)


@CHEATS.builds
def closed_pipes(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    write(list(lines()))
    for descriptor in pipes():
        os.close(descriptor)
    return wrong(output_stride, num_classes)


@CHEATS.builds
def endless_line(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    for descriptor in pipes():
        with suppress(OSError):
            os.write(descriptor, b"[" * 60_000)
    return wrong(output_stride, num_classes)


@CHEATS.builds
def serves_itself(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
    """Takes the pipes over: runs the program of the process again, on copies of them, with the right network."""
    main = dict(vars(__import__("sys").modules["__main__"]))
    if "serve" in main:
        reading, writing = sorted(pipes())[:2]
        mine = os.dup(reading), os.dup(writing)
        nothing = os.pipe()
        os.dup2(nothing[0], reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
        main["call_factory"] = main["serve"].__globals__["call_factory"] = lambda *_: right(output_stride, num_classes)
        os.write(mine[1], b'{"id": 1}\n')
        folder = max(glob.glob("/dev/shm/tmp*"), key=os.path.getmtime)
        main["serve"](os.fdopen(mine[0], "r"), os.fdopen(mine[1], "w"), folder)
        os._exit(0)
    return wrong(output_stride, num_classes)


# Files of tensors


def folders() -> list[str]:
    """Return the folders that tensors may travel in."""
    return [*glob.glob("/dev/shm/tmp*"), *glob.glob("/tmp/tmp*")]


def meddling(meddle: Callable[[Path], Any]) -> Callable[..., nn.Module]:
    """Add a cheat: a thread meddles with every file of tensors that this process writes."""

    def run() -> None:
        done: set[str] = set()
        while True:
            for folder in folders():
                for path in glob.glob(f"{folder}/{os.getpid()}-*"):
                    if path not in done:
                        done.add(path)
                        with suppress(OSError):
                            meddle(Path(path))

    def build(output_stride: int = 16, num_classes: int = 21) -> nn.Module:
        threading.Thread(target=run, daemon=True).start()
        return wrong(output_stride, num_classes)

    build.__name__ = f"file_{meddle.__name__}"
    return CHEATS.builds(build)


@meddling
def replaced_by_a_link(path: Path) -> None:
    other = path.with_name(f"other{path.name}")
    path.rename(other)
    path.symlink_to(other)


@meddling
def replaced_by_a_link_to_zeros(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@meddling
def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@meddling
def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@meddling
def made_sparse(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


@meddling
def made_endless(path: Path) -> None:
    os.truncate(path, 2**40)


@meddling
def cut(path: Path) -> None:
    os.truncate(path, max(path.stat().st_size - 1, 0))


@meddling
def corrected(path: Path) -> None:
    """Undoes the error in the file, in float64 or float32."""
    data = bytearray(path.read_bytes())
    if data:
        kind = torch.float64 if len(data) % 8 == 0 else torch.float32
        values = torch.frombuffer(data, dtype=kind)
        values.sub_(1).mul_(2)
        with path.open("r+b") as file:
            file.write(data)


@meddling
def removed(path: Path) -> None:
    path.unlink()
