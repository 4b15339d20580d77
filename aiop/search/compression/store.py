"""The trials of a search on disk: an Optuna journal that a kill at any moment leaves readable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from aiop.errors import AiopError

__all__ = ["JOURNAL", "Store"]

JOURNAL = "search.journal"
_STUDY = "aiop-compress"
_SETTINGS = "settings"


class _Held:
    """The folder is locked as a whole while it is open, and the system frees it when a process is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Store:
    """An Optuna study, in memory or in a folder, whose settings stay the same.

    Only finished trials are written, each as one line that is flushed to disk: after a kill all of them are there, and
    a line that was cut off is taken away when the folder is opened again.

    Args:
        folder: Where ``search.journal`` is or will be; None keeps everything in memory.
        directions: One per objective.
        settings: What must be the same for a search to go on.

    Raises:
        AiopError: A folder that cannot be written, that another process searches in, or that holds a search with other
            settings.
    """

    def __init__(
        self,
        folder: Path | None,
        directions: Sequence[optuna.study.StudyDirection],
        settings: Mapping[str, Any],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._lock: int | None = None
        storage: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
        if folder is not None:
            storage = self._open(folder)
        try:
            self.study = optuna.create_study(
                storage=storage, study_name=_STUDY, directions=directions, load_if_exists=True
            )
        except (ValueError, KeyError, TypeError) as error:
            self.close()
            raise _foreign(folder, error) from error
        plain = json.loads(json.dumps(settings))
        known = self.study.user_attrs.get(_SETTINGS)
        if known is None:
            self.study.set_user_attr(_SETTINGS, plain)
        elif known != plain:
            self.close()
            changed = [key for key in (known | plain) if known.get(key) != plain.get(key)]
            parts = [f"{key} was {_short(known.get(key))}, is {_short(plain.get(key))}" for key in changed]
            raise AiopError(
                f'"{folder}" holds a search with other settings ({"; ".join(parts)}): give another folder, or '
                "the same settings"
            )

    def _open(self, folder: Path) -> optuna.storages.BaseStorage:
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._hold(folder)
            if path.exists():
                _mend(path)
            lock: Any = _Held() if self._lock is not None else None
            return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        except OSError as error:
            self.close()
            reason = error.strerror or error
            raise AiopError(f'cannot write into "{folder}": {reason}; give a writable folder') from error
        except (ValueError, KeyError) as error:
            self.close()
            raise _foreign(folder, error) from error

    def _hold(self, folder: Path) -> None:
        """Lock the folder until the process ends, where the system can; elsewhere Optuna's own lock is used."""
        try:
            import fcntl
        except ImportError:
            return
        self._lock = os.open(folder / f".{JOURNAL}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise AiopError(
                f'another search runs in "{folder}": wait for it, or give another folder'
            ) from None

    def close(self) -> None:
        """Let others open the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Finished trials in the order of their numbers."""
        return self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))

    def note(self, key: str, value: Any) -> None:
        """Keep a value, ready for JSON, under a name."""
        self.study.set_user_attr(key, value)

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return what was kept under names that begin so, the beginning taken away."""
        attrs = self.study.user_attrs
        return {key.removeprefix(prefix): value for key, value in attrs.items() if key.startswith(prefix)}


def _mend(path: Path) -> None:
    """Take away a last line that was not written to its end."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _foreign(folder: Path | None, error: Exception) -> AiopError:
    reason = " ".join(str(error).split())[:80]
    return AiopError(
        f'"{folder}" has a {JOURNAL} that is no journal of a search ({reason}): give another folder'
    )


def _short(value: Any) -> str:
    text = "not given" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
