"""Training the supernet: the largest body first, then smaller and smaller ones that learn from it (Cai et al. 2020)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from aiop.errors import AiopError
from aiop.graph_ir.checkpoint import resume_checkpoint, save_checkpoint, under
from aiop.strict import at_least
from aiop.tasks.latent.body import SPACE, recalibrate
from aiop.tasks.latent.heads.base import MEMORY, Prepared
from aiop.tasks.latent.supernet import LARGEST_CODE, Supernet
from aiop.tasks.latent.training import (
    Progress,
    data_identity,
    one_cycle,
    optimiser_tensors,
    restore_optimiser,
)
from aiop.tasks.spaces.digits_ofa import (
    BLOCKS,
    BOUNDARIES,
    EXPANSIONS,
    KERNELS,
    STRIDES,
    WIDTHS,
    Block,
    DigitsBody,
    Stage,
)

__all__ = ["PHASES", "ShrinkingSettings", "Shrunk", "draw", "top1", "train"]

#: What may vary, phase by phase, beside all that varied before it.
PHASES = ("largest", "kernel", "depth", "expansion", "width")
Array = npt.NDArray[Any]
WARM_UP = 0.1  # share of a phase's steps in which the learning rate rises


@dataclass(frozen=True)
class ShrinkingSettings:
    """How a supernet is trained.

    steps: of each of the `PHASES`. batch: images of a step. rate: highest learning rate of the first phase, shrink_rate
    of each other. decay: of weights, AdamW. bodies: that learn in a step of a later phase. taught: weight of the
    largest body's answer against the label's, 0 to 1. guidance: weight of the classes of the pixels, see `train`.
    shift: pixels by which images move at random, either way. every: steps between checkpoints.
    """

    steps: tuple[int, ...] = (2000, 150, 200, 250, 1400)
    batch: int = 32
    rate: float = 5e-3
    shrink_rate: float = 2e-3
    decay: float = 0.02
    bodies: int = 2
    taught: float = 0.5
    guidance: float = 1.0
    shift: int = 4
    every: int = 100

    def __post_init__(self) -> None:
        """Refuse numbers that train nothing."""
        if len(self.steps) != len(PHASES) or min(self.steps) < 0 or not sum(self.steps):
            raise AiopError(
                f"setting 'steps' is {list(self.steps)}: give a number of steps for each of {', '.join(PHASES)}"
            )
        at_least(self, 2, "batch")
        at_least(self, 1, "bodies", "every")
        at_least(self, 1e-9, "rate", "shrink_rate")
        at_least(self, 0, "decay", "guidance", "shift", "taught")
        if self.taught > 1:
            raise AiopError(f"setting 'taught' is {self.taught}: give a share from 0 to 1")


@dataclass(frozen=True)
class Shrunk:
    """What a training cost: steps, and CPU seconds over all its parts where it was interrupted."""

    steps: int
    seconds: float


def draw(phase: str, rng: np.random.Generator) -> str:
    """Draw a code of those that learn in a phase, every choice that varies there uniformly."""
    varied = PHASES[1 : PHASES.index(phase) + 1]

    def pick(what: str, choices: tuple[int, ...]) -> int:
        return choices[int(rng.integers(len(choices)))] if what in varied else max(choices)

    stages = []
    for widths in WIDTHS:
        width, depth = pick("width", widths), pick("depth", tuple(range(1, BLOCKS + 1)))
        blocks = (Block(pick("kernel", KERNELS), pick("expansion", EXPANSIONS)) for _ in range(depth))
        stages.append(Stage(width, tuple(blocks)))
    return SPACE.format(DigitsBody(tuple(stages)))


def smallest(phase: str) -> str:
    """The smallest body that learns in a phase."""
    varied = PHASES[1 : PHASES.index(phase) + 1]

    def pick(what: str, choices: tuple[int, ...]) -> int:
        return min(choices) if what in varied else max(choices)

    block = Block(pick("kernel", KERNELS), pick("expansion", EXPANSIONS))
    blocks = (block,) * pick("depth", (1, BLOCKS))
    return SPACE.format(DigitsBody(tuple(Stage(pick("width", widths), blocks) for widths in WIDTHS)))


def train(
    supernet: Supernet,
    data: Prepared,
    settings: ShrinkingSettings,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Shrunk:
    """Train a supernet to classify, phase by phase; the supernet's own weights are where it starts.

    In the later phases every step trains ``settings.bodies`` bodies of the phase: one drawn, and in turn the largest,
    the smallest and further drawn ones; each learns from labels and from the largest body as the first phase left it.
    Where ``guidance`` is not 0, they also learn to tell from the two coarser feature maps, through a linear layer that
    is thrown away in the end, what share of the pixels under every position is of which class: one class for a whole
    image of several objects teaches little. The result depends on the arguments alone, interrupted or not.

    data: prepared by a `ClassificationHead`. checkpoint: a file from which an interrupted training goes on.
    progress: called after every step with steps done, steps in all, and the loss.

    Raises:
        AiopError: for a damaged checkpoint, or one of another training, and where the loss is no number any more.
    """
    run = _Run(supernet, data, settings, seed, Path(checkpoint) if checkpoint is not None else None)
    run.resume()
    total = sum(settings.steps)
    while run.phase < len(PHASES):
        loss = run.step()
        done = sum(settings.steps[: run.phase]) + run.at
        if progress is not None and loss is not None:
            progress(done, total, loss)
    return Shrunk(total, run.seconds)


def top1(supernet: Supernet, code: str, calibration: Tensor, data: Prepared, batch: int = 64) -> float:
    """Top-1 accuracy in % of the extracted and recalibrated body of a code under the supernet's own classifier.

    calibration: uint8 or float ``(n, 3, H, W)``, images of the training split.
    """
    body = supernet.extract(code)
    recalibrate(body, calibration, batch=batch)
    body.eval()
    correct = 0
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(data)), batch):
            images, targets = data.batch(rows)
            correct += int((supernet.classify(body(images)).argmax(dim=1) == targets["class"]).sum())
    return 100.0 * correct / len(data)


class _Run:
    """A training in progress: where it is, its optimiser and its teacher."""

    def __init__(
        self, supernet: Supernet, data: Prepared, settings: ShrinkingSettings, seed: int, path: Path | None
    ) -> None:
        self.supernet, self.data, self.settings, self.seed, self.path = supernet, data, settings, seed, path
        self.phase, self.at, self.seconds = 0, 0, 0.0
        self.teacher: Supernet | None = None
        self.guides = self._guides()
        self._maps: dict[int, Tensor] = {}
        self.optimiser = self._optimiser()

    def step(self) -> float | None:
        """One step of the phase, or the step to the next phase (None); writes checkpoints."""
        if self.at == self.settings.steps[self.phase]:
            self._next_phase()
            self.save()
            return None
        begun = time.process_time()
        loss = self._learn()
        self.at += 1
        self.seconds += time.process_time() - begun
        if self.at % self.settings.every == 0:
            self.save()
        return loss

    def _learn(self) -> float:
        settings, phase = self.settings, PHASES[self.phase]
        place = sum(settings.steps[: self.phase]) + self.at
        # Every step draws from a generator of its own: nothing of it needs to be kept for going on.
        random = np.random.default_rng((self.seed, place))
        rows = _rows(len(self.data), settings.batch, self.seed, place)
        images, targets = self.data.batch(rows)
        moves = random.integers(2 * settings.shift + 1, size=(len(rows), 2))
        images = _recoloured(_shifted(images, moves, settings.shift), random)
        shares = self._shares(rows, moves) if self.guides else []
        taught = None
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(images).softmax(dim=1)
        highest = settings.shrink_rate if self.phase else settings.rate
        for group in self.optimiser.param_groups:
            group["lr"] = highest * one_cycle(self.at, settings.steps[self.phase], WARM_UP)
        self.optimiser.zero_grad()
        codes = self._codes(phase, random) if self.phase else [LARGEST_CODE]
        total = 0.0
        for code in codes:
            features = self.supernet.features(images, code)
            logits = self.supernet.classify(features)
            loss = functional.cross_entropy(logits, targets["class"], label_smoothing=0.1)
            if taught is not None:
                soft = functional.cross_entropy(logits, taught)
                loss = (1 - settings.taught) * loss + settings.taught * soft
            for guide, maps, share in zip(self.guides, features[1:], shares, strict=bool(shares)):
                said = guide(maps).log_softmax(dim=1)
                loss = loss - settings.guidance * (share * said).sum(dim=1).mean()
            (loss / len(codes)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / len(codes)
        if not math.isfinite(total):
            raise AiopError(
                f"the supernet's loss is {total} at step {place}: lower its learning rates, "
                f"{settings.rate} and {settings.shrink_rate}"
            )
        self.optimiser.step()
        return total

    def _codes(self, phase: str, random: np.random.Generator) -> list[str]:
        """The bodies of a step; the extremes take turns, so that no body between them is out of their reach."""
        turn = (LARGEST_CODE, smallest(phase), draw(phase, random))[self.at % 3]
        return [turn, *(draw(phase, random) for _ in range(self.settings.bodies - 1))]

    def _guides(self) -> nn.ModuleList:
        """Read the classes of pixels off the two coarser feature maps."""
        if not self.settings.guidance:
            return nn.ModuleList()
        labels = self.data.scenes.spec.labels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return nn.ModuleList(nn.Conv2d(channels, labels, 1) for channels in BOUNDARIES[1:])

    def _shares(self, rows: list[int], moves: Array) -> list[Tensor]:
        """Share of every class ``(n, labels, H / s, W / s)`` in the pixels under each position of the coarser maps."""
        labels = self.data.scenes.spec.labels
        for row in rows:
            if row not in self._maps:
                # Of a data set that does not fit into memory these are read again, as its images are.
                self._maps[row] = torch.from_numpy(self.data.scenes[self.data.rows[row]].semantic)
        maps = torch.stack([self._maps[row] for row in rows])
        if len(self._maps) * maps[0].nbytes > MEMORY:
            self._maps.clear()
        moved = _shifted(maps[:, None].float(), moves, self.settings.shift).long()
        # One class more takes the void, and is left out.
        known = torch.zeros(len(rows), labels + 1, *moved.shape[2:]).scatter_(
            1, moved.clamp_(max=labels), 1.0
        )
        return [functional.avg_pool2d(known[:, :labels], stride) for stride in STRIDES[1:]]

    def _next_phase(self) -> None:
        self.phase, self.at = self.phase + 1, 0
        if self.phase == 1:
            self.teacher = self._frozen(self.supernet.state_dict())
        if self.phase < len(PHASES) and PHASES[self.phase] in ("expansion", "width"):
            self.supernet.sort()  # the first channels are those that smaller bodies keep
        self.optimiser = self._optimiser()

    def _frozen(self, state: Mapping[str, Tensor]) -> Supernet:
        teacher = Supernet(self.supernet.classifier.out_features)
        teacher.load_state_dict(state)
        return teacher.requires_grad_(False)

    def _optimiser(self) -> torch.optim.AdamW:
        """Matrices decay; vectors and what starts as the identity do not."""
        named = [*self.supernet.named_parameters(), *self.guides.named_parameters()]
        decayed = [value for name, value in named if value.dim() > 1 and not name.startswith("kernels.")]
        others = [value for name, value in named if value.dim() == 1 or name.startswith("kernels.")]
        groups = [
            {"params": decayed, "weight_decay": self.settings.decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0)

    # ---- checkpoints ---------------------------------------------------------------------------------------

    def identity(self) -> dict[str, str]:
        """What makes another training another; the data by its size and the records of a few rows."""
        settings = {name: value for name, value in asdict(self.settings).items() if name != "every"}
        return {
            "settings": json.dumps(settings),
            "seed": str(self.seed),
            "data": data_identity(self.data),
        }

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.path is None:
            return
        tensors = {f"supernet.{name}": value for name, value in self.supernet.state_dict().items()}
        tensors |= {f"guides.{name}": value for name, value in self.guides.state_dict().items()}
        if self.teacher is not None:
            tensors |= {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()}
        tensors |= optimiser_tensors(self.optimiser)
        state = {"phase": self.phase, "at": self.at, "seconds": self.seconds}
        save_checkpoint(self.path, tensors, state | self.identity())

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        otherwise = "of a supernet trained with other {key}: delete it, or name another file"
        found = None if self.path is None else resume_checkpoint(self.path, self.identity, otherwise)
        if found is None:
            return
        tensors, state = found
        self.phase, self.at, self.seconds = int(state["phase"]), int(state["at"]), float(state["seconds"])
        self.supernet.load_state_dict(under(tensors, "supernet."))
        self.guides.load_state_dict(under(tensors, "guides."))
        if self.phase:
            self.teacher = self._frozen(under(tensors, "teacher."))
        self.optimiser = self._optimiser()
        restore_optimiser(self.optimiser, tensors)


def _rows(count: int, batch: int, seed: int, step: int) -> list[int]:
    """The rows of a step: every row once per epoch, in an order of the epoch's own."""
    batch = min(batch, count)
    epoch, place = divmod(step, count // batch)
    order = np.random.default_rng((seed, epoch, 1)).permutation(count)
    return [int(row) for row in order[place * batch : (place + 1) * batch]]


def _shifted(images: Tensor, moves: Array, most: int) -> Tensor:
    """Move each image ``(C, H, W)``; ``moves`` ``(n, 2)`` from 0 to ``2 * most``, edges are repeated."""
    if not most:
        return images
    height, width = images.shape[2:]
    wide = functional.pad(images, (most,) * 4, mode="replicate")
    return torch.stack(
        [
            part[:, top : top + height, left : left + width]
            for part, (top, left) in zip(wide, moves.tolist(), strict=True)
        ]
    )


def _recoloured(images: Tensor, random: np.random.Generator) -> Tensor:
    """Change contrast and brightness of each image a little; channels last."""
    gain, bias = (
        torch.from_numpy(random.uniform(low, high, (len(images), 1, 1, 1)).astype(np.float32))
        for low, high in ((0.8, 1.2), (-0.2, 0.2))
    )
    return (images * gain + bias).contiguous(memory_format=torch.channels_last)
