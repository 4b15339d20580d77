"""The tasks of the public benchmarks, and the table column that each one comes from."""

from __future__ import annotations

from typing import Literal

from aiop.tasks.task import Task, register_task

__all__ = [
    "NAS_BENCH_201_COLUMNS",
    "NAS_BENCH_MR_COLUMNS",
    "TIMM_ACCURACY_SETS",
    "TIMM_THROUGHPUT_SETS",
    "timm_accuracy_task",
    "timm_throughput_task",
]

_NASLIB = "NAS-Bench-201 (Dong and Yang 2020), collected by NASLib"
_HELP = "HELP (Lee et al. 2021) and HW-NAS-Bench (Li et al. 2021)"
_NCP = "NAS-Bench-MR (Ding et al. 2022), NCP repository"
_TIMM = "timm results (Wightman)"


def _accuracy(
    domain: str, space: str, suffix: str, metric: str, dataset: str, source: str, licence: str
) -> str:
    name = f"{domain}/{space}/{suffix}-{metric}"
    return register_task(Task(name, metric, "%", "max", domain, dataset, space, source, licence)).name


def _cost(domain: str, space: str, suffix: str, device: str, source: str, licence: str) -> str:
    unit, direction = _COST_UNITS[domain]
    name = f"{domain}/{space}/{suffix}"
    return register_task(
        Task(name, domain, unit, direction, domain, device, space, source, licence, transform="log")
    ).name


_COST_UNITS: dict[str, tuple[str, Literal["max", "min"]]] = {
    "latency": ("ms", "min"),
    "energy": ("mJ", "min"),
    "throughput": ("images/s", "max"),
}


def _nas_bench_201() -> dict[str, str]:
    columns: dict[str, str] = {}
    for column, suffix, dataset in (
        ("cifar10_val_acc", "cifar10-val", "CIFAR-10 validation split, trained on half of the training set"),
        ("cifar10_test_acc", "cifar10-test", "CIFAR-10 test set"),
        ("cifar100_val_acc", "cifar100-val", "CIFAR-100 validation split"),
        ("imagenet16_120_val_acc", "imagenet16-120-val", "ImageNet16-120 validation split"),
    ):
        columns[column] = _accuracy(
            "classification", "nas-bench-201", suffix, "top1", dataset, _NASLIB, "Apache-2.0"
        )
    for column, suffix, device in (
        ("1080ti_1", "1080ti-batch1", "GTX 1080 Ti, batch 1"),
        ("1080ti_256", "1080ti-batch256", "GTX 1080 Ti, batch 256"),
        ("2080ti_1", "2080ti-batch1", "RTX 2080 Ti, batch 1"),
        ("titan_rtx_1", "titan-rtx-batch1", "Titan RTX, batch 1"),
        ("titan_rtx_32", "titan-rtx-batch32", "Titan RTX, batch 32"),
        ("pixel3", "pixel3", "Pixel 3"),
        ("raspi4", "raspi4", "Raspberry Pi 4"),
        ("gold_6226", "gold-6226", "Xeon Gold 6226"),
        ("silver_4114", "silver-4114", "Xeon Silver 4114"),
        ("eyeriss", "eyeriss", "Eyeriss accelerator"),
        ("edgegpu", "edgegpu", "Jetson TX2 edge GPU"),
    ):
        columns[f"latency_ms_{column}"] = _cost("latency", "nas-bench-201", suffix, device, _HELP, "MIT")
    columns["energy_mj_edgegpu"] = _cost(
        "energy", "nas-bench-201", "edgegpu", "Jetson TX2 edge GPU", _HELP, "MIT"
    )
    return columns


def _nas_bench_mr() -> dict[tuple[str, str], str]:
    columns: dict[tuple[str, str], str] = {}
    for setting, domain, prefix, dataset, metrics in (
        (
            "cls-50-1000",
            "classification",
            "cls-50-1000",
            "ImageNet, 50 classes, 1000 images each",
            ("top1", "top5"),
        ),
        (
            "cls-50-100",
            "classification",
            "cls-50-100",
            "ImageNet, 50 classes, 100 images each",
            ("top1", "top5"),
        ),
        (
            "cls-10-1000",
            "classification",
            "cls-10-1000",
            "ImageNet, 10 classes, 1000 images each",
            ("top1", "top5"),
        ),
        ("cls-10c", "classification", "cls-10c", "ImageNet subset, short schedule", ("top1", "top5")),
        ("seg", "segmentation", "cityscapes", "Cityscapes, 19 classes", ("mIoU", "mAcc", "aAcc")),
        ("video", "video", "hmdb51", "HMDB51, 51 classes", ("top1", "top5")),
    ):
        for metric in metrics:
            columns[setting, metric] = _accuracy(
                domain, "nas-bench-mr", prefix, metric.lower(), dataset, _NCP, "BSD-2-Clause (academic use)"
            )
    return columns


#: Set of timm's accuracy table -> data set.
TIMM_ACCURACY_SETS = {
    "imagenet": "ImageNet validation set",
    "imagenet-a": "ImageNet-A (natural adversarial examples)",
    "imagenet-a-clean": "ImageNet, the 200 classes of ImageNet-A",
    "imagenet-r": "ImageNet-R (renditions)",
    "imagenet-r-clean": "ImageNet, the 200 classes of ImageNet-R",
    "imagenet-real": "ImageNet with reassessed labels (ReaL)",
    "imagenetv2-matched-frequency": "ImageNetV2, matched frequency",
    "sketch": "ImageNet-Sketch",
}

#: Sets of timm's benchmark table that measure inference: ``infer-PRECISION-LAYOUT-VERSIONS-DEVICE``.
TIMM_THROUGHPUT_SETS = (
    "infer-amp-nchw-pt113-cu117-rtx3090",
    "infer-amp-nchw-pt210-cu121-rtx3090",
    "infer-amp-nchw-pt240-cu124-rtx3090",
    "infer-amp-nchw-pt240-cu124-rtx4090",
    "infer-amp-nchw-pt240-cu124-rtx4090-dynamo",
    "infer-amp-nchw-pt291-cu128-4090",
    "infer-amp-nchw-pt291-cu128-4090-dynamo",
    "infer-amp-nchw-pt291-cu130-5090",
    "infer-amp-nchw-pt291-cu130-5090-dynamo",
    "infer-amp-nchw-pt291-cu130-pro6000maxq",
    "infer-amp-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-amp-nhwc-pt113-cu117-rtx3090",
    "infer-amp-nhwc-pt210-cu121-rtx3090",
    "infer-amp-nhwc-pt240-cu124-rtx3090",
    "infer-amp-nhwc-pt240-cu124-rtx4090",
    "infer-amp_bf16-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-bf16-nchw-pt291-cu130-pro6000maxq-dynamo",
    "infer-fp32-nchw-pt221-cpu-i9_10940x-dynamo",
    "infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo",
    "infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo",
)


def timm_accuracy_task(dataset: str, metric: str) -> str:
    """Task of a set and metric (``"top1"`` or ``"top5"``) of timm's accuracy table."""
    return f"classification/timm/{dataset}-{metric}"


def timm_throughput_task(benchmark: str) -> str:
    """Task of an inference set of timm's benchmark table."""
    return f"throughput/timm/{benchmark}"


#: Column of the NAS-Bench-201 table -> task.
NAS_BENCH_201_COLUMNS = _nas_bench_201()

#: (setting, column) of the NAS-Bench-MR table -> task.
NAS_BENCH_MR_COLUMNS = _nas_bench_mr()

for _set, _dataset in TIMM_ACCURACY_SETS.items():
    for _metric in ("top1", "top5"):
        _accuracy("classification", "timm", _set, _metric, _dataset, _TIMM, "Apache-2.0")
for _set in TIMM_THROUGHPUT_SETS:
    _cost("throughput", "timm", _set, _set.removeprefix("infer-"), _TIMM, "Apache-2.0")
