"""Tells pytest not to follow the links beside the package: what they lead to is collected as ``aiop.*``."""

collect_ignore = ["finetune", "graph_ir", "pretrain", "tasks"]
