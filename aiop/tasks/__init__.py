"""What is predicted, and on which networks: tasks, benchmark tables and search spaces."""

from __future__ import annotations

from aiop.tasks import tables as _tables  # noqa: F401  (registers the tasks)
from aiop.tasks.networks import build
from aiop.tasks.spaces import get_space, list_spaces
from aiop.tasks.task import Task, get_task, list_tasks

__all__ = ["Task", "build", "get_space", "get_task", "list_spaces", "list_tasks"]
