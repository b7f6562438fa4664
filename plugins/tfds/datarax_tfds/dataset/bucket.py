"""Download of prepared data sets from Google's public bucket over HTTPS; TFDS itself no longer looks there."""

import base64
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import requests

from .folders import FEATURES, INFO

HOST: Final = "https://storage.googleapis.com"
_BUCKET: Final = "tfds-data"
_TIMEOUT: Final = (5, 60)  # seconds to connect, and between two packets
_CHUNK: Final = 1 << 20
_THREADS: Final = 8

_log = logging.getLogger(__name__)


def fetch(full_name: str, folder: Path) -> bool:
    """Download the files of ``name/config/version`` into ``folder``; if the bucket has none, log why and return False.

    Raises:
        OSError: The bucket has the data set, but a file did not arrive whole.
    """
    try:
        files = {entry["name"].rpartition("/")[2]: entry for entry in _listed(f"datasets/{full_name}/")}
    except (requests.RequestException, ValueError) as cause:
        _log.warning("try_gcs: %s cannot be looked for in the bucket %s: %s", full_name, _BUCKET, cause)
        return False
    if not {INFO, FEATURES} <= files.keys():
        _log.warning("try_gcs: %s is not in the bucket %s", full_name, _BUCKET)
        return False
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda name: _fetch_file(files[name], folder / name), files):
            pass
    return True


def _listed(prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the objects directly below a folder of the bucket."""
    page: str | None = ""
    while page is not None:
        query = {"prefix": prefix, "delimiter": "/", "fields": "nextPageToken,items(name,mediaLink,md5Hash)"}
        parameters = {**query, "pageToken": page} if page else query
        answer = requests.get(f"{HOST}/storage/v1/b/{_BUCKET}/o", params=parameters, timeout=_TIMEOUT)
        answer.raise_for_status()
        content = answer.json()
        yield from content.get("items", [])
        page = content.get("nextPageToken")


def _fetch_file(entry: dict[str, Any], path: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with requests.get(entry["mediaLink"], stream=True, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_content(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
    if base64.b64encode(digest.digest()).decode() != entry["md5Hash"]:
        raise OSError(f"{entry['name']} of the bucket {_BUCKET} did not arrive whole; try again")
