"""Loads a file of weights into a network without executing anything in the file."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deeplab_spec.capture.capture import Candidate
from deeplab_spec.errors import SpecError, TargetError, one_line

SAFE: Final = ".safetensors"
PICKLED: Final = (".pt", ".pth")
_NESTS: Final = ("state_dict", "model")
_PREFIX: Final = "module."


def load_weights(module: Candidate, path: Path) -> tuple[str, ...]:
    """Load a state dict from a file; return notes on how its contents were changed to fit.

    It is a ``.safetensors`` file, or a ``.pt`` or ``.pth`` file of plain tensors.

    Raises:
        SpecError: If the file has another suffix.
        TargetError: If it cannot be read, holds more than plain tensors, or does not fit.
    """
    own = module.saved
    tensors, notes = _plain(path, _read(path), own)
    _check(path, tensors, own)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return notes


def _read(path: Path) -> object:
    if path.suffix not in {SAFE, *PICKLED}:
        raise SpecError("--weights", f"must be a file {SAFE}, {' or '.join(PICKLED)}", str(path))
    if path.exists() and not path.is_file():
        raise TargetError(str(path), "is not a file")
    try:
        if path.suffix == SAFE:
            return load_file(path)
        _check_stored(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error of a rejected file says enough
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "holds more than plain weights, or is damaged; it is not loaded, as that could execute code"
        raise TargetError(str(path), reason) from error
    except TargetError:
        raise
    except (OSError, SafetensorError) as error:
        raise TargetError(str(path), f"cannot be read: {one_line(error)}") from error
    except Exception as error:  # a damaged archive may raise anything
        raise TargetError(str(path), f"is not a file of weights: {one_line(error)}") from error
    return loaded


def _check_stored(path: Path) -> None:
    """Reject an archive with a compressed member, which may be of any size once it is read.

    Raises:
        TargetError: If it has one; torch writes none.
    """
    if not is_zipfile(path):
        return
    with ZipFile(path) as archive:
        if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
            raise TargetError(str(path), "is not a file of weights: it has a compressed member")


def _plain(path: Path, loaded: object, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Unwrap a state dict; return its tensors by name, and notes on what was unwrapped."""
    notes = []
    for nest in _NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nest), Mapping):
            loaded = loaded[nest]
            notes.append(f"the weights were read from {nest!r}")
    if not isinstance(loaded, Mapping):
        raise TargetError(str(path), f"must hold a state dict, but holds a {type(loaded).__name__}")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TargetError(str(path), f"must hold tensors by name, but holds a {type(tensor).__name__} at {name!r}")
    tensors = dict(loaded)
    if tensors and all(name.startswith(_PREFIX) and name not in own for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
        notes.append(f"the prefix {_PREFIX!r} was removed from every name")
    return tensors, tuple(notes)


def _check(path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Reject weights of another network, in one sentence."""
    faults = []
    for names, what in ((own.keys() - tensors.keys(), "missing"), (tensors.keys() - own.keys(), "unknown")):
        if names:
            faults.append(f"{len(names)} names are {what} (first {min(names)!r})")
    shapes = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if shapes:
        name = min(shapes)
        wrong, right = tuple(tensors[name].shape), tuple(own[name].shape)
        faults.append(f"{len(shapes)} have another shape (first {name!r}: is {wrong}, must be {right})")
    if faults:
        raise TargetError(str(path), f"does not fit the source: {'; '.join(faults)}")
