"""The methods that protocols compare: the head, and every baseline, made for one task and one draw of labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError, suggest
from aiop.finetune.views import Views
from aiop.protocols.code import code_digest
from aiop.tasks.task import Task

__all__ = ["AIO_P", "ASIDE", "HEAD", "KNOWN", "Fitted", "Method", "Setting", "find_methods", "match_methods"]

Array = npt.NDArray[Any]

HEAD = "head"
"""Name of the project's own method among the others."""

TUNED = "head-tuned"
"""The head with networks tuned to the labels beside it."""

KNOWN = ("macs", "cost-rank", "forest", "xgboost", "ncp")
"""Baselines that can be fitted to all training networks of a task: beside them stands the predictor itself."""

AIO_P = "aio-p"
"""What the names of the variants of AIO-P begin with."""

ASIDE = ("ncp-costs", TUNED)
"""Compared where they are named only. NCP's perceptron trains for 200 epochs and takes as long as all other baselines
together; with costs beside the code it is no published method, and takes that time again. Tuning takes minutes."""

_AIO_P = "aiop.finetune.baselines.aio_p.few_shot"
_TUNING = ("aiop.predictor.tuning", "aiop.predictor.tuned_network")
_RATES = ("throughput", "training-throughput")


class Fitted(Protocol):
    """What a method makes: scikit-learn's fit and predict. Heads have ``interval(views) -> (low, high)`` too."""

    def fit(self, views: Views, values: Array) -> Any:
        """Fit to n networks and their values ``(n,)``."""
        ...

    def predict(self, views: Views) -> Array:
        """Return values ``(m,)``, or whatever orders networks as their values."""
        ...


@dataclass(frozen=True, eq=False)
class Setting:
    """What a method may know of its task besides labels.

    others: makes what knows the other tasks of the space (`aiop.finetune.baselines.OtherTasks`), for baselines that
        transfer; raises an `AiopError` where there are none.
    aio_p: makes the trained AIO-P to compare with; raises an `AiopError` where there is none, or it has seen the task.
    tuning: makes of an unfitted head one that has networks tuned to the labels as well.
    graphs: makes AIO-P's graphs of the networks asked for, which else are read one by one.
    turned: costs are turned round where the labels say that more goes with less; else what the task is decides.
    """

    task: Task
    seed: int
    others: Callable[[], Any] | None = None
    aio_p: Callable[[], Any] | None = None
    tuning: Callable[[Any], Fitted] | None = None
    graphs: Callable[[], Any] | None = None
    turned: bool = False


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the tables.

    make: setting -> something to fit.
    least_labels: fewer are not tried.
    ranks_only: predictions have no unit: no errors, no intervals.
    scratch: knows nothing but the labels it is given.
    code: digest of the code that it runs; results of other code are not taken for its own.
    most_draws: of labels; what takes minutes per fit gets fewer.
    usual_labels: the numbers of labels it is asked for where a call names none; all of the protocol's where empty.
    """

    name: str
    make: Callable[[Setting], Fitted]
    least_labels: int = 0
    ranks_only: bool = False
    scratch: bool = True
    code: str = ""
    ours: bool = field(default=False)
    most_draws: int | None = None
    usual_labels: tuple[int, ...] = ()

    @property
    def sees(self) -> Literal["predictor", "aio-p", "others", "labels"]:
        """What it knows besides labels and costs: the predictor, AIO-P, other tasks of the space, or nothing."""
        if self.ours:
            return "predictor"
        if self.name.startswith(AIO_P):
            return "aio-p"
        return "labels" if self.scratch else "others"


def find_methods() -> dict[str, Method]:
    """Return the head and every registered baseline by name, the head first."""
    from aiop.finetune.baselines import BASELINES

    found: dict[str, Method] = {}
    try:
        from aiop.finetune.head import FewShotHead
    except ModuleNotFoundError as error:
        if error.name != "aiop.finetune.head":
            raise
    else:
        code = code_digest(FewShotHead.__module__)

        def head(setting: Setting) -> Fitted:
            return FewShotHead.for_task(setting.task, seed=setting.seed)

        def tuned(setting: Setting) -> Fitted:
            if setting.tuning is None:
                raise AiopError("there is no predictor whose networks could be tuned: ask for `head`")
            return setting.tuning(head(setting))

        found[HEAD] = Method(HEAD, head, scratch=False, code=code, ours=True)
        own = "".join(map(code_digest, _TUNING))
        found[TUNED] = Method(TUNED, tuned, least_labels=20, scratch=False, code=own, ours=True)
    for name, factory in BASELINES.items():
        accepted = inspect.signature(factory).parameters
        if name.startswith(AIO_P):
            slow = name != AIO_P  # for the 100 epochs of its authors, per task and draw
            found[name] = Method(
                name,
                _aio_p_maker(factory),
                2,
                scratch=False,
                code=code_digest(_AIO_P),
                most_draws=2 if slow else None,
                usual_labels=(20,) if slow else (),  # the published number
            )
            continue
        found[name] = Method(
            name,
            _maker(factory),
            least_labels=int(getattr(factory, "least_labels", 2)),
            ranks_only=bool(getattr(factory, "ranks_only", False)),
            scratch="others" not in accepted,
            code=code_digest(factory.__module__),
        )
    return found


def match_methods(methods: Mapping[str, Method], globs: str | None = None) -> dict[str, Method]:
    """Return the methods that one of several globs, joined by commas, matches; one that matches none is an error.

    None are all but `ASIDE`.
    """
    if globs is None:
        return {name: method for name, method in methods.items() if name not in ASIDE}
    found: dict[str, Method] = {}
    for glob in globs.split(","):
        names = [name for name in methods if fnmatchcase(name, glob.strip())]
        if not names:
            raise AiopError(
                f'method pattern "{glob}" matches no method{suggest(glob, methods)}: the methods are '
                f"{', '.join(methods)}"
            )
        found |= {name: methods[name] for name in names}
    return {name: method for name, method in methods.items() if name in found}


def _maker(factory: Callable[..., Fitted]) -> Callable[[Setting], Fitted]:
    """Return a maker that gives a factory those keywords that it has."""
    accepted = inspect.signature(factory).parameters

    def make(setting: Setting) -> Fitted:
        task = setting.task
        options: dict[str, Any] = {
            "seed": setting.seed,
            "direction": task.direction,
            "transform": task.transform,
            "sign": "labels" if setting.turned else "positive",
        }
        given = {name: value for name, value in options.items() if name in accepted}
        if "others" in accepted and setting.others is not None:
            given["others"] = setting.others()
        made = factory(**given)
        # More cost goes with less of a rate: known without labels, from what the task is.
        plain = "sign" in accepted and not setting.turned
        return _Reversed(made) if task.domain in _RATES and plain else made

    return make


def _aio_p_maker(factory: Callable[..., Fitted]) -> Callable[[Setting], Fitted]:
    def make(setting: Setting) -> Fitted:
        pretrained = setting.aio_p() if setting.aio_p is not None else None
        store = setting.graphs() if setting.graphs is not None else None
        return factory(pretrained=pretrained, store=store, form=setting.task.form, seed=setting.seed)

    return make


class _Reversed:
    """A cost that is taken to be the better the smaller it is."""

    def __init__(self, cost: Fitted) -> None:
        self.cost = cost

    def fit(self, views: Views, values: Array) -> _Reversed:
        self.cost.fit(views, values)
        return self

    def predict(self, views: Views) -> Array:
        return -np.asarray(self.cost.predict(views))
