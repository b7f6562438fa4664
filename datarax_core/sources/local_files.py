"""Sources that can be told to stay off the network."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path


class LocalFilesOnlyMixin:
    """For sources whose data may be fetched: ``local_files_only = True`` means that nothing ever is."""

    local_files_only: bool = False

    def _check_local_cache(self, expected_paths: Iterable[str | PathLike[str]], *, dataset_name: str) -> None:
        """Call before any network attempt.

        Raises:
            TypeError: ``expected_paths`` is one path, not several.
            FileNotFoundError: ``local_files_only`` is set and a path is missing; names the data set and each of them.
        """
        if isinstance(expected_paths, str | PathLike) or not isinstance(expected_paths, Iterable):
            raise TypeError(
                f"expected_paths are the paths of {dataset_name!r}, a list of them, not {expected_paths!r:.80}"
            )
        if not self.local_files_only:
            return
        missing = [path for path in expected_paths if not Path(path).exists()]
        if missing:
            raise not_on_this_machine(dataset_name, missing)


def not_on_this_machine(dataset_name: str, missing: Iterable[str | PathLike[str]], hint: str = "") -> FileNotFoundError:
    """The error of a data set that is not there, where ``local_files_only`` forbids fetching it; ``hint`` says what is."""
    return FileNotFoundError(
        f"data set {dataset_name!r} is not on this machine and local_files_only=True forbids fetching it; "
        f"missing: {', '.join(map(str, missing))}{hint}"
    )
