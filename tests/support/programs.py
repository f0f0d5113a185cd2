"""Reads exported programs as the judge reads what arrives from a candidate's process."""

from torch.export import ExportedProgram

from deeplab_spec.capture.candidate.process import program_document
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.document import read_document
from deeplab_spec.capture.fx.program import read_program


def read_exported(program: ExportedProgram) -> Capture:
    """Read an exported program of fixed sizes."""
    document = program_document(program)
    shapes = [tuple(entry["shape"]) for entry in document["inputs"] if entry["state"] is None and entry["shape"]]
    constants = {name: value for name, value in program.constants.items() if name not in program.state_dict}
    return read_program(read_document(document, shapes, program.state_dict, constants))
