from __future__ import annotations

import re

import pytest

from aiop.errors import AiopError
from aiop.tasks import get_space, get_task, list_spaces, list_tasks
from aiop.tasks.task import DOMAINS, Task, match_tasks, register_task


def test_counts_per_space() -> None:
    # 4 accuracies, 11 latencies, 1 energy; 5 settings x 2 metrics + 3; 8 sets x 2 metrics + 22 throughputs.
    assert len(list_tasks("*/nas-bench-201/*")) == 16
    assert len(list_tasks("*/nas-bench-mr/*")) == 13
    assert len(list_tasks("*/timm/*")) == 38
    assert len(list_tasks()) >= 90
    assert list_tasks() == sorted(list_tasks())


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_is_described(name: str) -> None:
    task = get_task(name)
    assert task.name == name
    assert re.fullmatch(r"[a-z-]+/[a-z0-9-]+/[a-z0-9_-]+", name)
    assert task.domain in DOMAINS
    assert all((task.metric, task.unit, task.dataset, task.space, task.source, task.licence))
    cost = task.domain in ("latency", "energy", "throughput", "training-time", "training-throughput")
    assert task.transform == ("log" if cost else "identity")
    assert task.direction == ("min" if task.domain in ("latency", "energy", "training-time") else "max")
    assert task.space in list_spaces() or task.space == "timm"
    assert not task.form or task.form in get_space(task.space).forms
    # bodies that were trained individually, which is what that table is dear for
    assert task.rows >= (60 if task.space == "digits-ofa" else 300)
    assert task.noise is None or 0 < task.noise < 100


def test_rows_and_noise_of_known_tasks() -> None:
    accuracy, latency = (
        get_task(f"{task}")
        for task in ("classification/nas-bench-201/cifar10-test-top1", "latency/fbnet/pixel3")
    )
    assert (accuracy.rows, latency.rows) == (
        6466,
        5000,
    )  # classes of isomorphic cells; measured architectures
    assert accuracy.noise == pytest.approx(0.17, abs=0.005)  # points between twins
    assert latency.noise is None


def test_names_of_the_documentation_exist() -> None:
    for name in (
        "classification/nas-bench-201/cifar10-test-top1",
        "latency/nas-bench-201/1080ti-batch1",
        "segmentation/nas-bench-mr/cityscapes-miou",
        "video/nas-bench-mr/hmdb51-top1",
        "classification/timm/imagenet-top1",
    ):
        assert get_task(name).name == name


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(AiopError, match='did you mean "video/nas-bench-mr/hmdb51-top1"'):
        get_task("vido/nas-bench-mr/hmdb51-top1")
    with pytest.raises(AiopError, match='did you mean "classification/timm/imagenet-top1"'):
        match_tasks("clasification/timm/imagenet-top1")
    with pytest.raises(AiopError, match=r'did you mean "video/\*"'):
        match_tasks("vidoe/*")
    with pytest.raises(AiopError, match='did you mean "nas-bench-201"'):
        get_space("nas-bench-2001")
    assert list_tasks("nothing*") == []
    assert match_tasks("video/*") == list_tasks("video/*") != []


def test_registration_refuses_what_would_be_ambiguous() -> None:
    task = get_task("video/nas-bench-mr/hmdb51-top1")
    with pytest.raises(ValueError, match="registered twice"):
        register_task(task)
    assert register_task(task, replace=True) is get_task(task.name)
    with pytest.raises(ValueError, match="DOMAIN/SPACE/DATASET-METRIC"):
        Task("video/x", "top1", "%", "max", "video", "d", "x", "s", "l")
    with pytest.raises(ValueError, match="domain"):
        Task("sound/x/y", "top1", "%", "max", "sound", "d", "x", "s", "l")
