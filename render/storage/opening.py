"""Opens the storage at a place: a directory or a prefix in an object store."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from render.storage.local import LocalStorage
from render.storage.storage import Storage
from render.storage.url import Place


def open_storage(place: Place, *, patient: bool = False) -> Storage:
    """The storage at a place. With `patient`, an object store that does not answer is asked for minutes, not seconds."""
    if isinstance(place, Path):
        return LocalStorage(place)
    # Whoever has no object store does not wait for its client.
    from render.storage.objects import ObjectStorage

    return ObjectStorage(place, patient=patient)


def asking(place: Place) -> AbstractContextManager[None]:
    """Around what Zarr does at a place: what an object store had against it becomes a `StorageError`."""
    if isinstance(place, Path):
        return nullcontext()
    from render.storage.objects import translated

    return translated(place)
