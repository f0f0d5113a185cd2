"""What a decision changes in the specification's own graph, where paths keep their meaning."""

from dataclasses import fields

from deeplab_spec.graph.network import Network

Edit = tuple[str, str]
"""A path, and what is changed there: a field of its record, ``inputs``, ``node`` (it is there on
one side only), or ``after`` (a node is put in behind it)."""


def edits(before: Network, after: Network) -> frozenset[Edit]:
    """Return what differs between two graphs whose nodes are the same where their paths are."""
    found: set[Edit] = set()
    for node in before:
        if node.path not in after:
            found.add((node.path, "node"))
            continue
        other = after[node.path]
        if node.inputs != other.inputs:
            found.add((node.path, "inputs"))
        if type(node.op) is not type(other.op):
            found.add((node.path, "node"))
        elif node.op != other.op:
            changed = (field.name for field in fields(node.op))
            found |= {(node.path, name) for name in changed if getattr(node.op, name) != getattr(other.op, name)}
    for node in after:
        if node.path not in before:
            found |= {(path, "after") for path in node.inputs} | {(node.path, "node")}
    return frozenset(found)
