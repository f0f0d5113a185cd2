"""Folds normalisations into the weights of the convolutions before them."""

from collections.abc import Collection, Mapping

from torch import Tensor

from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm


def folded_weights(
    network: Network, weights: Mapping[str, Tensor], norms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the weights of the folded network (:func:`deeplab_spec.graph.folding.folded`).

    Args:
        network: The network with its normalisations.
        weights: Its tensors by path and role.
        norms: Paths of the normalisations that are folded; all by default.

    Returns:
        Tensors by path and role, without those of the normalisations that were folded.
    """
    found = dict(weights)
    for conv, norm in foldable(network):
        if norms is not None and norm not in norms:
            continue
        op = network[norm].op
        mean, variance = found.pop(f"{norm}.running_mean"), found.pop(f"{norm}.running_var")
        scale = (variance + (op.eps if isinstance(op, BatchNorm) else 0.0)).rsqrt()
        gamma, beta = found.pop(f"{norm}.weight", None), found.pop(f"{norm}.bias", None)
        scale = scale if gamma is None else scale * gamma
        bias = found.get(f"{conv}.bias")
        offset = (-mean if bias is None else bias - mean) * scale
        found[f"{conv}.weight"] = found[f"{conv}.weight"] * scale[:, None, None, None]
        found[f"{conv}.bias"] = offset if beta is None else offset + beta
    return found


def folded_values(
    network: Network, values: Mapping[str, Tensor], norms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the values of the folded network: a convolution has that of its normalisation."""
    found = dict(values)
    for conv, norm in foldable(network):
        if norm in found and (norms is None or norm in norms):
            found[conv] = found.pop(norm)
    return found
