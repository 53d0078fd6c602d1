"""How many workers a run has, from what its nodes have, and what each takes of its node.

On this machine alone one model has all cores, and the decode workers beside it take what it leaves
(cores are counted as logical ones).  On a cluster Ray places workers by what they reserve: a model
on CPUs reserves as many as it has threads, so large nodes get several and small ones one; those
that decode reserve one each.  The numbers are for the nodes that are there at the start; Ray adds
workers where nodes join and work waits.

What computes the model is decided once for a results folder, not by each node: other runtimes give
other bits, and rows must not depend on who was free.  So with GPUs in the cluster all models run on
them, and nodes without one decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import NamedTuple

MODELS_PER_GPU = 2  # while one puts its next batch together, the GPU computes the other's
MOST_MODEL_CPUS = 4  # more threads help a small network little; a second model helps more
_MODEL_SHARE = 0.75  # of a node's CPUs; one core decodes for several that compute


class Node(NamedTuple):
    """CPUs and GPUs of a node, as Ray counts them."""

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Workers:
    """The workers of a run.

    Attributes:
        decode, models: how many there are at the start.
        model_cpus: that each model reserves.
        threads: of each model; 0 for all cores of the machine that it runs on.
        model_gpus: share of a GPU that each model reserves.
        most_decode, most_models: that Ray may have, where nodes join and work waits; None for any.
    """

    decode: int
    models: int
    model_cpus: int = 1
    threads: int = 0
    model_gpus: float = 0.0
    most_decode: int | None = None
    most_models: int | None = None


def share_out(nodes: Sequence[Node], on_gpu: bool, alone: bool, decode: int = 0) -> Workers:
    """The workers for these nodes.

    Args:
        nodes: those that are there.
        on_gpu: whether models run on GPUs.
        alone: whether the one node is this machine, with a Ray of our own.
        decode: number that the user chose; 0 for none.

    >>> share_out([Node(8)], on_gpu=False, alone=True).decode
    7
    >>> found = share_out([Node(2), Node(16)], on_gpu=False, alone=False)
    >>> found.decode, found.models, found.model_cpus, found.most_models
    (6, 3, 4, None)
    >>> found = share_out([Node(16), Node(16), Node(8, gpus=1)], on_gpu=True, alone=False)
    >>> found.decode, found.models, found.model_gpus
    (38, 2, 0.5)
    """
    cpus = sum(node.cpus for node in nodes)
    if on_gpu:
        models, model_cpus = max(1, sum(node.gpus for node in nodes)) * MODELS_PER_GPU, 1
    elif alone:
        models, model_cpus = 1, 1
    else:
        typical = median_high([node.cpus for node in nodes if node.cpus] or [1])
        model_cpus = max(1, min(MOST_MODEL_CPUS, typical // 2))
        models = max(1, sum(int(node.cpus * _MODEL_SHARE) // model_cpus for node in nodes))
    left = cpus - (1 if alone else models * model_cpus)
    chosen = decode or max(1, left)
    return Workers(
        decode=chosen,
        models=models,
        model_cpus=model_cpus,
        threads=0 if alone else model_cpus,
        model_gpus=1 / MODELS_PER_GPU if on_gpu else 0.0,
        most_decode=chosen if alone or decode else None,
        most_models=models if alone else None,
    )
