"""From settings to a table of labels: every stage in order, each going on where it was interrupted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from aiop.errors import AiopError
from aiop.tasks.latent.config import LatentConfig, digest
from aiop.tasks.latent.draws import Roles, depth_bins, draw_codes, seed_of
from aiop.tasks.latent.ledger import Label, Ledger
from aiop.tasks.latent.pool import Result, one_thread, results
from aiop.tasks.latent.record import Costs, write_record
from aiop.tasks.latent.shared_heads import HeadTraining
from aiop.tasks.latent.studio import Bins, HeadJob, Job, LabelJob, Studio, make_scenes

__all__ = ["Bodies", "Watch", "build", "draw_bodies", "plan"]

KINDS = {"truth": "truth", "latent": "pseudo-labels", "swapping": "pseudo-labels by body swapping"}


class Watch(Protocol):
    """Is told how a build gets on."""

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        """A stage of so many steps begins, of which some are done already; a stage of this name may be begun anew."""

    def advance(self, stage: str, done: int, note: str = "") -> None:
        """A stage has done so many steps in all."""

    def note(self, text: str) -> None:
        """Something was left out, or could not be made."""


class _Silent:
    """Watches and says nothing."""

    def begin(self, stage: str, total: int, done: int = 0) -> None:
        """See `Watch.begin`."""

    def advance(self, stage: str, done: int, note: str = "") -> None:
        """See `Watch.advance`."""

    def note(self, text: str) -> None:
        """See `Watch.note`."""


@dataclass(frozen=True)
class Bodies:
    """Codes of a build; no network stands twice, whatever it serves for. bins: those that heads are trained on."""

    truth: tuple[str, ...]
    pseudo: tuple[str, ...]
    bins: Bins


def draw_bodies(config: LatentConfig) -> Bodies:
    """Draw the bodies of a build; more of a role begin with those of fewer.

    Raises:
        AiopError: the space has fewer than are asked for.
    """
    from aiop.graph_ir.hashing import content_hash
    from aiop.graph_ir.passes import canonicalise
    from aiop.tasks.latent.body import SPACE
    from aiop.tasks.networks import read
    from aiop.tasks.spaces.digits_ofa import LARGEST, SMALLEST

    roles = Roles(
        SPACE.sample, lambda code: content_hash(canonicalise(read(f"{SPACE.name}:{code}"))), config.seed
    )
    wanted = config.bodies
    bins = depth_bins(
        roles,
        lambda code: SPACE.parse(code).depth,
        (SMALLEST.depth, LARGEST.depth),
        wanted.bins,
        wanted.per_bin,
    )
    drawn = draw_codes(roles, {"truth": wanted.truth, "pseudo": wanted.pseudo})
    return Bodies(tuple(drawn["truth"]), tuple(drawn["pseudo"]), tuple(map(tuple, bins)))


def plan(config: LatentConfig, studio: Studio, bodies: Bodies) -> tuple[list[HeadJob], list[LabelJob]]:
    """Everything that a build trains after the supernet, in the order in which it is begun."""
    heads, labels = [], []
    identities: dict[tuple[str, str], str] = {}
    for group, trainings in config.groups.items():
        figures = trainings.figures()
        identities["truth", group] = digest(studio.bodies_identity, group, vars_of(trainings.truth), *figures)
        for method in config.methods():
            seed = seed_of(config.seed, "head", method, group)
            identity = digest(
                studio.bodies_identity, method, group, vars_of(trainings.shared), bodies.bins, seed
            )
            heads.append(HeadJob(method, group, bodies.bins, seed, identity))
            identities[method, group] = digest(identity, vars_of(trainings.pseudo), *figures)
    of_head = {(job.method, job.group): job.identity for job in heads}

    def label(kind: str, code: str, repeat: int = 0) -> Iterator[LabelJob]:
        for group, trainings in config.groups.items():
            made = "truth" if kind == "truth" else "pseudo"
            who = (made,) if getattr(trainings, made).one_seed else (kind, code)
            seed = seed_of(config.seed, "label", *who, group, repeat)
            identity = identities[kind, group]
            yield LabelJob(kind, code, group, seed, identity, of_head.get((kind, group), ""))

    # The longest first: at the end no processor waits long for another.
    for repeat, codes in enumerate((bodies.truth, bodies.truth[: config.bodies.repeats])):
        labels += [job for code in codes for job in label("truth", code, repeat)]
    for method in config.methods():
        labels += [job for code in bodies.truth for job in label(method, code)]
    labels += [job for code in bodies.pseudo for job in label("latent", code)]
    return heads, labels


def vars_of(settings: Any) -> dict[str, Any]:
    """A dataclass of plain values as JSON holds them; settings marked ``later`` are left out at their defaults."""
    every = {field: getattr(settings, field.name) for field in fields(settings)}
    return {
        field.name: value
        for field, value in every.items()
        if not (field.metadata.get("later") and value == field.default)
    }


def build(
    config: LatentConfig, *, jobs: int = 1, fresh: bool = False, watch: Watch | None = None
) -> dict[str, Any]:
    """Do everything that is not done yet, write the table and its card, and return the card.

    Interrupted at any moment, it goes on where it was: at the last checkpoint of a supernet or shared head, and after
    the last label. The numbers do not depend on interruptions, nor on how many processes there are.

    jobs: processes side by side, of one thread each. fresh: begin anew, without what `out` holds of a build.

    Raises:
        AiopError: for data of which nothing can be used, an `out` of other settings or one that cannot be written, and
            where no label of some kind could be made.
    """
    watch = watch or _Silent()
    begun = time.time()
    with one_thread():
        _prepare_folder(config, fresh)
        watch.begin("data", 1)
        studio = Studio(config, make_scenes(config, watch.note))
        for group in config.groups:
            studio.group(group)
        watch.advance("data", 1)
        watch.begin("bodies", 1)
        bodies = draw_bodies(config)
        watch.advance("bodies", 1)
        if not studio.supernet_path.exists():
            watch.begin("rehearsal", 1)
            studio.rehearse()
            watch.advance("rehearsal", 1)
        costs = Costs(supernet=_supernet(config, studio, watch))
        heads, labels = plan(config, studio, bodies)
        ledger = Ledger(
            config.folder / "labels.jsonl", {(job.kind, job.group): job.identity for job in labels}
        )
        if ledger.others:
            watch.note(f"{ledger.path} holds {ledger.others:,} labels of other settings: they are left alone")
        failures = _work(config, studio, heads, labels, ledger, costs, jobs, watch)
        asked = [ledger.labels[key] for job in labels if (key := _key(job)) in ledger]
        watch.begin("table", 1)
        card = write_record(config, bodies.truth, bodies.pseudo, asked, costs, failures, begun)
        watch.advance("table", 1)
    return card


def _supernet(config: LatentConfig, studio: Studio, watch: Watch) -> float:
    total = sum(config.supernet.steps)
    watch.begin("supernet", total)
    seconds = studio.train_supernet(lambda done, _, loss: watch.advance("supernet", done, f"loss {loss:.3f}"))
    watch.advance("supernet", total)
    return seconds


def _work(
    config: LatentConfig,
    studio: Studio,
    heads: Sequence[HeadJob],
    labels: Sequence[LabelJob],
    ledger: Ledger,
    costs: Costs,
    jobs: int,
    watch: Watch,
) -> dict[str, str]:
    """Train shared heads and make labels; returns what failed -> why."""
    work: list[Job] = []
    for head in heads:
        seconds = studio.head_done(head)
        if seconds is None:
            work.append(head)
        else:
            costs.heads[head.method, head.group] = seconds
    missing = [job for job in labels if _key(job) not in ledger]
    done = {"shared heads": len(heads) - len(work)}
    watch.begin("shared heads", len(heads), done["shared heads"])
    for kind, stage in KINDS.items():
        total = sum(job.kind == kind for job in labels)
        if total:
            done[stage] = total - sum(job.kind == kind for job in missing)
            watch.begin(stage, total, done[stage])
    work += missing
    failures: dict[str, str] = {}

    def alone(job: Job) -> Result:
        name = _name(job)
        if isinstance(job, LabelJob):
            return studio.do(job)
        watch.begin(name, config.groups[job.group].shared.steps)
        return studio.do(job, lambda step, _, loss: watch.advance(name, step, f"loss {loss:.3f}"))

    for job, result in results(work, config, jobs, alone):
        stage = "shared heads" if isinstance(job, HeadJob) else KINDS[job.kind]
        done[stage] += 1
        if isinstance(job, HeadJob):
            assert isinstance(result, HeadTraining)
            costs.heads[job.method, job.group] = result.seconds
        elif isinstance(result, Label):
            ledger.add(result)
        else:
            failures[_name(job)] = str(result)
            watch.note(f"{_name(job)}: {result}")
        watch.advance(stage, done[stage], job.group)
    made = {(label.kind, label.group) for label in ledger.labels.values()}
    for kind, group in dict.fromkeys((job.kind, job.group) for job in labels):
        if (kind, group) not in made:
            why = next((text for name, text in failures.items() if name.startswith(f"{kind} {group}")), "")
            raise AiopError(f"no label of {kind} {group} could be made: {why}")
    return failures


def _key(job: LabelJob) -> tuple[str, str, str, int]:
    return (job.kind, job.code, job.group, job.seed)


def _name(job: Job) -> str:
    if isinstance(job, HeadJob):
        return f"head {job.method} {job.group}"
    return f"{job.kind} {job.group} {job.code} ({job.seed})"


def _prepare_folder(config: LatentConfig, fresh: bool) -> None:
    folder = config.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            for name in ("supernet.safetensors", "supernet.part.safetensors", "labels.jsonl"):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "heads", ignore_errors=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise AiopError(f"folder {folder} cannot be written ({error.strerror}): give another `out`") from None
