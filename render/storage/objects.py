"""Storage in an object store: S3 and compatible, Google Cloud Storage, Azure Blob Storage.

Credentials come from the same places as for the tools of each cloud: environment, role of the machine, web identity and,
if boto3 is installed, its profile files. They are never written to disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from render.errors import Overtaken, StorageError
from render.storage.object_errors import WEB_PAGE_ANSWER, is_silence, storage_error
from render.storage.storage import ObjectInfo, Precondition, Version
from render.system.watched import interruptible

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

#: Minimum bytes of a part when a file is sent, and maximum number of parts: stores accept 10,000 at most.
_MIN_SENT_PART_BYTES, _MAX_SENT_PARTS = 16 << 20, 9000
#: Bytes of a part when a file is fetched.
_FETCHED_PART_BYTES = 32 << 20
#: Maximum number of objects that one request removes.
_MAX_REMOVED_AT_ONCE = 1000


class Patience(NamedTuple):
    """Time limits of a client.

    Seconds to connect, for one request, and for all its retries, and the number of retries.
    """

    connect_s: int
    request_s: int
    retry_s: int
    max_retries: int


#: Limits for a user at a prompt, and for hours of work, in which connections can be refused many times in seconds.
_QUICK, _PATIENT = Patience(4, 12, 8, 2), Patience(10, 120, 180, 1000)
#: Seconds without a byte after which a read is given up. A part that is sent has the whole time of a request instead,
#: because its answer comes after all bytes are sent.
SILENCE_S = 60
#: Seconds between two attempts to connect to a store.
_RECONNECT_EVERY_S = 2.0
#: Messages of the client if a connection fails.
_NOT_CONNECTED = ("error sending request", "Connection refused")


class ObjectStorage:
    """Storage of the objects whose names begin with a URL. Pickles as the URL and `patient`."""

    def __init__(self, place: str, *, patient: bool = False) -> None:
        self._place = place
        self._patient = patient
        self._client = self._call(lambda: connect(place, patient=patient))
        # A separate client for sending, without `read_timeout`: the answer to a large upload can take long.
        self._sender = self._call(lambda: connect(place, patient=patient, sending=True)) if patient else self._client

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._place, self._patient)

    @property
    def place(self) -> str:
        """URL before the names of all objects."""
        return self._place

    def load(self, name: str) -> tuple[bytes, Version]:
        """Return the content of an object and its version.

        Raises:
            FileNotFoundError: There is none.
        """
        response = self._interruptible_call(lambda: obstore.get(self._client, name))
        self._refuse_page(name, response.attributes)
        return bytes(self._interruptible_call(response.bytes)), Version(response.meta["e_tag"], response.meta["version"])

    def write(self, name: str, data: bytes, expected: Version | Precondition = Precondition.ANY) -> Version:
        """Write a small object in one request.

        Raises:
            Overtaken: It is not in the state `expected`.
        """
        mode: Any = "overwrite"
        if expected is Precondition.ABSENT:
            mode = "create"
        elif isinstance(expected, Version):
            conditions = (("e_tag", expected.tag), ("version", expected.number))
            mode = {key: value for key, value in conditions if value is not None}
        try:
            put = self._call(lambda: obstore.put(self._sender, name, data, mode=mode, use_multipart=False))
            return Version(put["e_tag"], put["version"])
        except Overtaken:
            # After a lost answer the client repeats the request, and conflicts with its own first write.
            try:
                content, version = self.load(name)
            except FileNotFoundError:
                content = b""
            if content == data:
                return version
            raise

    def write_file(self, name: str, path: Path) -> ObjectInfo:
        """Send a file in parts; the object appears once all of them are there."""
        size = path.stat().st_size
        part_bytes = max(_MIN_SENT_PART_BYTES, -(-size // _MAX_SENT_PARTS))
        put = self._call(lambda: obstore.put(self._sender, name, path, chunk_size=part_bytes, max_concurrency=4))
        return ObjectInfo(name, size, put["e_tag"] or "")

    def copy(self, name: str, target: str) -> None:
        """Copy an object within the store."""
        self._call(lambda: obstore.copy(self._sender, name, target))

    def fetch(self, name: str, path: Path, info: ObjectInfo | None = None) -> None:
        """Copy an object to a file in parts, after those that an earlier attempt left.

        It is renamed once complete.
        """
        info = info or self.info(name)
        if info is None:
            raise FileNotFoundError(f"{self._place}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name contains the tag of the object, so that a later attempt resumes the same content.
        temporary = path.with_name(f".{path.name}.{re.sub('[^0-9a-zA-Z]', '', info.tag)[:32]}.partial")
        with temporary.open("ab") as file:
            for part in self._parts(name, info, file.tell()):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def sha256(self, name: str, info: ObjectInfo) -> str:
        """Return the sha256, hex, of the content of an object, which is read in parts."""
        digest = hashlib.sha256()
        for part in self._parts(name, info):
            digest.update(part)
        return digest.hexdigest()

    def _parts(self, name: str, info: ObjectInfo, start: int = 0) -> Iterator[memoryview]:
        """Yield the content of an object from byte `start` on.

        Raises:
            StorageError: It is replaced meanwhile.
        """
        while start < info.size:
            stop = min(start + _FETCHED_PART_BYTES, info.size)
            part = self._part(name, info.tag, start, stop)
            yield part
            start += len(part)

    def _part(self, name: str, tag: str, start: int, stop: int) -> memoryview:
        options: Any = {"range": (start, stop)} | ({"if_match": tag} if tag else {})
        try:
            response = self._interruptible_call(lambda: obstore.get(self._client, name, options=options))
        except Overtaken:
            raise StorageError(f"{self._place}/{name} was replaced while it was read: run the command again") from None
        return memoryview(self._interruptible_call(response.bytes))

    def info(self, name: str) -> ObjectInfo | None:
        """Return name, size and tag of an object; None if there is none."""
        try:
            meta = self._head(name)
        except FileNotFoundError:
            return None
        return ObjectInfo(name, meta["size"], meta["e_tag"] or "")

    def written_at(self, name: str) -> datetime:
        """Return the time of an object's last write, by the clock of the store.

        Raises:
            FileNotFoundError: There is no such object.
        """
        return self._head(name)["last_modified"]

    def _head(self, name: str) -> Any:
        response = self._interruptible_call(lambda: obstore.get(self._client, name, options={"head": True}))
        self._refuse_page(name, response.attributes)
        return response.meta

    def _refuse_page(self, name: str, attributes: Mapping[Any, Any]) -> None:
        """Raise `StorageError` if the answer is a web page.

        It is one on a network that requires a sign-in first.
        """
        if str(attributes.get("Content-Type", "")).startswith("text/html") and not name.endswith((".html", ".htm")):
            raise StorageError(f"{self._place} {WEB_PAGE_ANSWER}")

    def children(self, prefix: str = "") -> list[str]:
        """Return the first parts of all names below a prefix, sorted.

        They are from one listing that stops at slashes.
        """
        listing = self._interruptible_call(lambda: obstore.list_with_delimiter(self._client, _below(prefix)))
        names = [*listing["common_prefixes"], *(meta["path"] for meta in listing["objects"])]
        return sorted({name.rstrip("/").rpartition("/")[2] for name in names} - {""})

    def tree(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the info of all objects below a prefix, page by page, with names relative to it."""
        below = _below(prefix)
        pages = iter(obstore.list(self._client, below))
        while (page := self._interruptible_call(lambda: next(pages, None))) is not None:
            for meta in page:
                yield ObjectInfo(meta["path"].removeprefix(below or ""), meta["size"], meta["e_tag"] or "")

    def remove(self, name: str) -> None:
        """Remove an object; do nothing if there is none."""
        try:
            self._call(lambda: obstore.delete(self._client, name))
        except FileNotFoundError:
            return

    def remove_tree(self, prefix: str) -> None:
        """Remove all objects below a prefix, many in one request."""
        names: list[str] = []
        for entry in self.tree(prefix):
            names.append(f"{_below(prefix) or ''}{entry.name}")
            if len(names) == _MAX_REMOVED_AT_ONCE:
                self._remove_all(names)
                names = []
        self._remove_all(names)

    def _remove_all(self, names: list[str]) -> None:
        if names:
            self._call(lambda: obstore.delete(self._client, names))

    def zarr(self, name: str, *, read_only: bool) -> Any:
        """Return the Zarr store in which an array is opened or created."""
        from zarr.storage import ObjectStore

        client = connect(f"{self._place}/{name}", patient=self._patient, sending=True) if name else self._sender
        return ObjectStore(client, read_only=read_only)

    def _interruptible_call(self, call: Callable[[], T]) -> T:
        """Return the result of a call without side effects, as `_call`.

        A signal does not wait for the answer.
        """
        return self._call(lambda: interruptible(call))

    def _call(self, call: Callable[[], T]) -> T:
        """Return the result of a call.

        Retry refused connections if patient, and translate errors of the client.

        Raises:
            Overtaken: Another process has written the object.
            FileNotFoundError: There is no such object.
            StorageError: Any other failure, in one line.
        """
        start = time.monotonic()
        try:
            while True:
                try:
                    return call()
                except BaseError as error:
                    refused = any(mark in str(error) for mark in _NOT_CONNECTED) and not is_silence(str(error))
                    if not (self._patient and refused and time.monotonic() - start < _PATIENT.retry_s):
                        raise
                time.sleep(_RECONNECT_EVERY_S)
        except (AlreadyExistsError, PreconditionError):
            raise Overtaken(f"{self._place} is being written to by another run") from None
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                raise
            raise storage_error(self._place, error) from None
        except (BaseError, ValueError) as error:
            raise storage_error(self._place, error) from None


@contextmanager
def translate_client_errors(place: str) -> Iterator[None]:
    """Inside the context, turn errors of the client into a `StorageError` that names the place."""
    try:
        yield
    except BaseError as error:
        raise storage_error(place, error) from None


def _reopened(place: str, patient: bool) -> ObjectStorage:
    return ObjectStorage(place, patient=patient)


def connect(place: str, *, patient: bool, sending: bool = False) -> Any:
    """Return a client of an object store, without sending a request.

    Args:
        place: URL before all names that the client uses.
        patient: Retry for minutes instead of seconds.
        sending: Allow the whole time of a request without a byte, for uploads.
    """
    patience = _PATIENT if patient else _QUICK
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "timeout": timedelta(seconds=patience.request_s),
        "allow_http": _allows_http(),
    }
    if not sending:
        client["read_timeout"] = timedelta(seconds=SILENCE_S)
    # A store that accepted a request and stayed silent is not asked again: `_call` retries only refused connections.
    retry_s = min(patience.retry_s, max(1, SILENCE_S - 1))
    retry: RetryConfig = {"max_retries": patience.max_retries, "retry_timeout": timedelta(seconds=retry_s)}
    options: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if place.startswith("s3://"):
        provider = _profile_credentials()
        if provider is not None:
            options["credential_provider"] = provider
    # Names are literal, but the client would decode percent escapes in the URL.
    scheme, _, name = place.partition("://")
    return from_url(f"{scheme}://{quote(name)}", **options)


def _allows_http() -> bool:
    """Return whether the environment allows HTTP without encryption, for a private server."""
    allowed = (os.environ.get(f"{cloud}_ALLOW_HTTP", "") for cloud in ("AWS", "GOOGLE", "AZURE"))
    endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"))
    return any(word.lower() in ("true", "1") for word in allowed) or any(url.startswith("http://") for url in endpoints)


def _profile_credentials() -> Any:
    """Return credentials from the profile files of boto3.

    None if there are none, or if the environment has others.
    """
    environment_names = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in environment_names) or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    files = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
    has_files = any(Path(os.environ.get(name, file)).expanduser().exists() for name, file in files)
    if not os.environ.get("AWS_PROFILE") and not has_files:
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    from botocore.exceptions import BotoCoreError

    try:
        return Boto3CredentialProvider()
    except BotoCoreError as error:
        raise ValueError(f"credentials: {error}") from None
    except ValueError:
        return None


def _below(prefix: str) -> str | None:
    """Return the beginning of all names below a prefix; None for all names."""
    return f"{prefix.rstrip('/')}/" if prefix else None
