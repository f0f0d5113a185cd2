"""Tensors that travel as files of raw bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from deeplab_spec.capture.candidate.process import DTYPES, Files

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(entries=st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES), max_size=6))
def test_mapped_tensors_are_those_that_were_packed(
    entries: list[tuple[str, tuple[int, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also after tensors whose bytes leave the next one unaligned, without elements, and in an empty file."""
    files = Files(str(tmp_path_factory.mktemp("files")))
    tensors = {
        str(number): torch.arange(torch.Size(shape).numel()).reshape(shape).to(getattr(torch, dtype))
        for number, (dtype, shape) in enumerate(entries)
    }

    mapped = files.mapped(files.pack(tensors))

    assert mapped.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert mapped[name].dtype is tensor.dtype
        assert torch.equal(mapped[name], tensor)
    assert not list(Path(files.folder).iterdir())
