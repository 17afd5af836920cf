"""Choice of the storage for a place: a directory or a prefix in an object store."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from render.storage.local import LocalStorage
from render.storage.storage import Storage
from render.storage.url import Place


def open_storage(place: Place, *, patient: bool = False) -> Storage:
    """Return the storage at a place.

    With `patient`, an object store is retried for minutes, not seconds.
    """
    if isinstance(place, Path):
        return LocalStorage(place)
    # Imported only when needed, because the client of object stores is slow to import.
    from render.storage.objects import ObjectStorage

    return ObjectStorage(place, patient=patient)


def translate_errors(place: Place) -> AbstractContextManager[None]:
    """Return a context that turns errors of an object store in Zarr into a `StorageError`."""
    if isinstance(place, Path):
        return nullcontext()
    from render.storage.objects import translate_client_errors

    return translate_client_errors(place)
