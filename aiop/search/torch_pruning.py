"""Pruning ratios of Torch-Pruning, scored by the predictor before anything is trained.

Torch-Pruning (Fang et al., CVPR 2023) asks for a share of channels to take out of every layer; which shares are good it
does not say. Here a copy of the module is pruned by ratios, read as a graph and predicted; and `best_ratios` looks for
those with the best prediction inside a budget of MACs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiop.errors import AiopError, suggest
from aiop.graph_ir import ComputeGraph
from aiop.graph_ir.importers import from_torch
from aiop.predictor.prediction import Prediction

if TYPE_CHECKING:
    import torch

    from aiop.predictor.few_shot import TaskHead
    from aiop.predictor.predictor import Predictor

__all__ = ["LayerRatios", "ScoredRatios", "best_ratios", "prunable", "prune", "score_ratios"]

Ratios = Mapping[str, float] | float

_MOST = 0.9  # of a layer's channels that `best_ratios` takes out at most
_NEAR = 0.03  # relative to the budget: MACs this far below it will do
_HALVINGS = 7


@dataclass(frozen=True, slots=True)
class LayerRatios:
    """Layers that can only be pruned together: the one that a ratio is given to, and all whose outputs it cuts."""

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoredRatios:
    """Ratios and what the predictor says of the module pruned by them; ``in_distribution`` as of `Prediction`."""

    ratios: Mapping[str, float]
    prediction: Prediction
    macs: int
    params: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON."""
        return asdict(self) | {"ratios": dict(self.ratios)}


def prunable(
    module: torch.nn.Module, example_inputs: Any, *, ignored: Sequence[str] = ()
) -> tuple[LayerRatios, ...]:
    """Layers that a ratio can be given to, in the order of the module; those that make its outputs are left alone.

    Args:
        module: what is to be pruned; it stays as it is.
        example_inputs: a tensor, or a sequence or mapping of the arguments of ``forward``.
        ignored: names of submodules to leave alone, with all that is in them.

    Raises:
        AiopError: Torch-Pruning is not installed, cannot trace the module, or a name is unknown.
    """
    return tuple(LayerRatios(*found) for found in _groups(copy.deepcopy(module), example_inputs, ignored))


def prune(
    module: torch.nn.Module,
    example_inputs: Any,
    ratios: Ratios,
    *,
    ignored: Sequence[str] = (),
    round_to: int | None = None,
    importance: Callable[..., Any] | None = None,
    num_heads: Mapping[str, int] | None = None,
) -> torch.nn.Module:
    """Return a pruned copy of a module, its weights those of the channels that are kept.

    Args:
        module: as of `prunable`.
        example_inputs: as of `prunable`.
        ignored: as of `prunable`.
        ratios: name of a layer, or of a submodule for all layers in it -> share of its channels to take out; one number
            for all layers.
        round_to: channels are left in multiples of it.
        importance: of Torch-Pruning; L2 over coupled layers where left out.
        num_heads: name of a projection of attention -> heads, as Torch-Pruning asks for them.

    Raises:
        AiopError: as of `prunable`, for a ratio outside [0, 1), two ratios for coupled layers, one for a layer that
            cannot be pruned, and where the outputs would change their shapes.
    """
    groups = _groups(copy.deepcopy(module), example_inputs, ignored)
    options = {"round_to": round_to, "importance": importance, "num_heads": num_heads}
    return _pruned(module, example_inputs, _by_group(module, groups, ratios), options)


def _pruned(
    module: torch.nn.Module, example_inputs: Any, ratios: Mapping[str, float], options: Mapping[str, Any]
) -> torch.nn.Module:
    """Prune a copy by ratios of the first layers of groups."""
    tp = _package()
    pruned = copy.deepcopy(module)
    modules = dict(pruned.named_modules())
    trained = {name: part.training for name, part in modules.items()}
    pruned.eval()
    before = _output_shapes(pruned, example_inputs)
    heads = {_part(modules, name): count for name, count in (options.get("num_heads") or {}).items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tp.pruner.BasePruner(
                pruned,
                example_inputs,
                importance=options.get("importance") or tp.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=0.0,
                pruning_ratio_dict={modules[name]: ratio for name, ratio in ratios.items()},
                round_to=options.get("round_to"),
                num_heads=heads,
                in_channel_groups={},  # the package's defaults are one dict for all pruners
                out_channel_groups={},
            ).step()
        after = _output_shapes(pruned, example_inputs)
    except Exception as error:  # whatever Torch-Pruning or a module that it left in pieces raises
        raise AiopError(
            f"{type(module).__name__}: does not run after it was pruned ({_line(error)}); name in `ignored` what "
            "depends on numbers of channels, or give `num_heads`"
        ) from error
    if before != after:
        raise AiopError(
            f"{type(module).__name__}: pruning would change its outputs from {before} to {after}; name the layers that "
            "make them in `ignored`"
        )
    for name, part in pruned.named_modules():
        part.training = trained.get(name, False)
    return pruned


def score_ratios(
    module: torch.nn.Module,
    example_inputs: Any,
    ratios: Sequence[Ratios] | Ratios,
    predictor: Predictor | TaskHead,
    task: str | None = None,
    **options: Any,
) -> list[ScoredRatios]:
    """Score pruning ratios: what the predictor says of the module pruned by each.

    Args:
        module: as of `prunable`.
        example_inputs: as of `prunable`.
        ratios: as of `prune`, one or several.
        predictor: the one that is loaded by `aiop.load`, or a head by `aiop.fit_head`.
        task: name of a task of the predictor; a head has its own.
        **options: of `prune`.

    Returns:
        One score per entry of ``ratios``, in their order.

    Raises:
        AiopError: as of `prune`, and for an unknown task.
    """
    several: list[Ratios] = [ratios] if isinstance(ratios, Mapping | int | float) else list(ratios)
    graphs = [
        from_torch(prune(module, example_inputs, entry, **options), example_inputs) for entry in several
    ]
    found = _predictions(graphs, predictor, task)
    return [
        ScoredRatios(
            dict(entry) if isinstance(entry, Mapping) else {"": float(entry)},
            prediction,
            graph.macs,
            graph.params,
        )
        for entry, prediction, graph in zip(several, found, graphs, strict=True)
    ]


def best_ratios(
    module: torch.nn.Module,
    example_inputs: Any,
    predictor: Predictor | TaskHead,
    task: str | None = None,
    *,
    macs: float = 0.7,
    trials: int = 100,
    seed: int = 0,
    lower: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[ScoredRatios]:
    """Look for ratios whose prediction is best at a share of the module's MACs.

    Optuna proposes how strongly layers are pruned relative to each other, and the share itself is met by scaling its
    proposal. The first trial is the uniform ratio, so the best is never predicted worse than that.

    Args:
        module: as of `prunable`.
        example_inputs: as of `prunable`.
        predictor: as of `score_ratios`.
        task: as of `score_ratios`.
        macs: share of the MACs that may be left.
        trials: proposals to look at.
        seed: of the proposals; the same seed gives the same result.
        lower: lower values of the task are better.
        progress: told of trials done and trials in all.
        **options: of `prune`.

    Returns:
        All scores, the best first; predictions outside of the distribution after those inside.

    Raises:
        AiopError: as of `score_ratios`, or where no ratio meets the share.
    """
    import optuna

    if not 0 < macs < 1 or trials < 1:
        raise AiopError(
            f"macs {macs}, trials {trials}: expected a share between 0 and 1, and at least one trial"
        )
    known = ("ignored", "round_to", "importance", "num_heads")
    for name in options:
        if name not in known:
            raise AiopError(
                f'best_ratios has no option "{name}"{suggest(name, known)}: it has {", ".join(known)}'
            )
    names = [group.name for group in prunable(module, example_inputs, ignored=options.get("ignored", ()))]
    budget = macs * from_torch(module, example_inputs).macs
    study = optuna.create_study(
        direction="minimize" if lower else "maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
    )
    study.enqueue_trial(dict.fromkeys(names, 0.5))
    found: list[ScoredRatios] = []
    for done in range(trials):
        trial = study.ask()
        weights = {name: trial.suggest_float(name, 0.0, 1.0) for name in names}
        fitted = _fitted(module, example_inputs, weights, budget, options)
        if fitted is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            ratios, graph = fitted
            prediction = _predictions([graph], predictor, task)[0]
            found.append(ScoredRatios(ratios, prediction, graph.macs, graph.params))
            study.tell(trial, prediction.value)
        if progress is not None:
            progress(done + 1, trials)
    if not found:
        raise AiopError(
            f"{type(module).__name__}: no ratios leave {macs:.0%} of its MACs; ask for more, or ignore fewer layers"
        )
    sign = 1 if lower else -1
    return sorted(found, key=lambda item: (not item.prediction.in_distribution, sign * item.prediction.value))


def _fitted(
    module: torch.nn.Module,
    example_inputs: Any,
    weights: Mapping[str, float],
    budget: float,
    options: Mapping[str, Any],
) -> tuple[dict[str, float], ComputeGraph] | None:
    """Scale ratios until the MACs are just within the budget; None where even the strongest exceed it."""
    low, high = 0.0, _MOST / max(max(weights.values()), 1e-6)
    best: tuple[dict[str, float], ComputeGraph] | None = None
    scale = high
    for _ in range(_HALVINGS):
        ratios = {name: round(min(_MOST, scale * weight), 4) for name, weight in weights.items()}
        graph = from_torch(_pruned(module, example_inputs, ratios, options), example_inputs)
        if graph.macs > budget:
            if best is None and scale == high:
                return None
            low = scale
        else:
            best, high = (ratios, graph), scale
            if graph.macs >= (1 - _NEAR) * budget:
                break
        scale = (low + high) / 2
    return best


def _predictions(
    graphs: Sequence[ComputeGraph], predictor: Predictor | TaskHead, task: str | None
) -> list[Prediction]:
    from aiop.predictor.few_shot import TaskHead

    if isinstance(predictor, TaskHead):
        if task not in (None, predictor.task.name):
            raise AiopError(f'task "{task}" is not that of the head: it predicts {predictor.task.name}')
        return [found.predictions[0] for found in predictor.predict(list(graphs))]
    if task not in predictor.names:
        raise AiopError(
            f'task "{task}" is unknown to the predictor{suggest(str(task), predictor.names)}: name one of its '
            f"{len(predictor.names)} tasks"
        )
    return [found[task] for found in predictor.predict(list(graphs), task)]


def _groups(
    module: torch.nn.Module, example_inputs: Any, ignored: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Name of the first layer and names of all whose outputs are cut, per group that no output is made of."""
    tp = _package()
    modules = dict(module.named_modules())
    skipped = [part for name in ignored for part in _part(modules, name).modules()]
    names = {part: name for name, part in modules.items()}
    found = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph().build_dependency(module.eval(), example_inputs)
            for group in graph.get_all_groups(ignored_layers=skipped):
                if not any(
                    graph.is_in_channel_pruning_fn(item.dep.handler) and _layer(item, tp) for item in group
                ):
                    continue  # nothing of the module reads it: an output
                cut = [
                    names[item.dep.target.module]
                    for item in group
                    if _layer(item, tp) and graph.is_out_channel_pruning_fn(item.dep.handler)
                ]
                if any(modules[name] in skipped for name in cut):
                    continue
                found.append((names[group[0].dep.target.module], tuple(dict.fromkeys(cut))))
    except AiopError:
        raise
    except Exception as error:  # whatever a module or its tracing raises is a cause to report
        raise AiopError(
            f"{type(module).__name__}: Torch-Pruning cannot trace it ({_line(error)}); give "
            "example inputs that its forward takes"
        ) from error
    return found


def _layer(item: Any, tp: Any) -> bool:
    """Whether a member of a group is a convolution or a linear layer."""
    return isinstance(item.dep.target.module, (tp.ops.TORCH_CONV, tp.ops.TORCH_LINEAR))


def _by_group(
    module: torch.nn.Module,
    groups: Iterable[tuple[str, tuple[str, ...]]],
    ratios: Ratios,
) -> dict[str, float]:
    """Return the ratio of every group's first layer; each ratio must change something, and none contradict another."""
    homes = {layer: name for name, layers in groups for layer in (name, *layers)}
    given = dict(ratios) if isinstance(ratios, Mapping) else {"": float(ratios)}
    modules = dict(module.named_modules())
    found: dict[str, tuple[float, str]] = {}
    # The longest names last: a layer's own ratio counts more than that of what it is in.
    for key in sorted(given, key=lambda name: name.count(".") + bool(name)):
        ratio = float(given[key])
        if not 0 <= ratio < 1:
            raise AiopError(f'ratio {ratio} of "{key}": expected a share from 0 to below 1')
        _part(modules, key)
        prefix = f"{key}." if key else ""
        reached = {homes[layer] for layer in homes if layer == key or not prefix or layer.startswith(prefix)}
        if not reached:
            raise AiopError(
                f'"{key}" has no layer whose channels can be taken out: name one of '
                f"{', '.join(sorted(set(homes.values()))[:12]) or 'no layers'}"
            )
        for home in reached:
            before = found.get(home)
            if before is not None and before[0] != ratio and key in homes and before[1] in homes:
                raise AiopError(
                    f'"{before[1]}" and "{key}" can only be pruned together: give them the same ratio'
                )
            found[home] = ratio, key
    return {name: ratio for name, (ratio, _) in found.items() if ratio > 0}


def _part(modules: Mapping[str, torch.nn.Module], name: str) -> torch.nn.Module:
    if name not in modules:
        raise AiopError(
            f'the module has no part "{name}"{suggest(name, modules)}: use the names of named_modules()'
        )
    return modules[name]


def _output_shapes(module: torch.nn.Module, example_inputs: Any) -> list[tuple[int, ...]]:
    torch = import_module("torch")
    tree = import_module("torch.utils._pytree")
    with torch.no_grad():
        if isinstance(example_inputs, Mapping):
            outputs = module(**example_inputs)
        elif isinstance(example_inputs, torch.Tensor):
            outputs = module(example_inputs)
        else:
            outputs = module(*example_inputs)
    return [tuple(leaf.shape) for leaf in tree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _package() -> Any:
    try:
        return import_module("torch_pruning")
    except ImportError as error:
        raise AiopError(
            f"pruning ratios need Torch-Pruning ({error}): install it with `pip install 'aiop[tuning]'`"
        ) from error
