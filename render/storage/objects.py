"""Storage in an object store: S3 and compatible servers, Google Cloud Storage, Azure Blob Storage.

Credentials come from the same places as for the tools of each cloud: environment, role of the machine, web identity and,
if boto3 is installed, its profile files. They are never written to disk.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from render.errors import Overtaken, StorageError
from render.storage.storage import Facts, Seen, Version
from render.system.watched import interruptible

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

#: Minimum bytes of a part when a file is sent, and maximum number of parts: stores accept 10,000 at most.
_PART, _PARTS = 16 << 20, 9000
#: Bytes of a part when a file is fetched.
_FETCHED = 32 << 20
#: Maximum number of objects that one request removes.
_REMOVED = 1000
#: Seconds to connect, seconds for one request, seconds in which it is retried, and maximum number of retries. Quick is for
#: a user at a prompt. Patient is for hours of work: many retries, since connections can be refused often in seconds.
_QUICK, _PATIENT = (4, 12, 8, 2), (10, 120, 180, 1000)
#: Seconds without a byte after which a read is given up. A part that is sent has the whole time of a request instead,
#: because its answer comes after all bytes are sent.
SILENCE_S = 60
#: Seconds between two attempts to connect to a store.
_AGAIN_S = 2.0
#: Messages of the client if a connection fails.
_NOT_CONNECTED = ("error sending request", "Connection refused")


class ObjectStorage:
    """Storage of the objects whose names begin with a URL. Pickles as the URL and `patient`."""

    def __init__(self, place: str, *, patient: bool = False) -> None:
        self._place = place
        self._patient = patient
        self._client = self._said(lambda: connect(place, patient=patient))
        # A separate client for sending, without `read_timeout`: the answer to a large upload can take long.
        self._sender = self._said(lambda: connect(place, patient=patient, sending=True)) if patient else self._client

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._place, self._patient)

    @property
    def place(self) -> str:
        return self._place

    def load(self, name: str) -> tuple[bytes, Version]:
        response = self._asked(lambda: obstore.get(self._client, name))
        self._refuse_page(name, response.attributes)
        return bytes(self._asked(response.bytes)), Version(response.meta["e_tag"], response.meta["version"])

    def write(self, name: str, data: bytes, seen: Version | Seen = Seen.ANYTHING) -> Version:
        mode: Any = "overwrite"
        if seen is Seen.NOTHING:
            mode = "create"
        elif isinstance(seen, Version):
            mode = {key: value for key, value in (("e_tag", seen.tag), ("version", seen.number)) if value is not None}
        try:
            put = self._said(lambda: obstore.put(self._sender, name, data, mode=mode, use_multipart=False))
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

    def write_file(self, name: str, path: Path) -> Facts:
        size = path.stat().st_size
        part = max(_PART, -(-size // _PARTS))
        put = self._said(lambda: obstore.put(self._sender, name, path, chunk_size=part, max_concurrency=4))
        return Facts(name, size, put["e_tag"] or "")

    def fetch(self, name: str, path: Path, known: Facts | None = None) -> None:
        known = known or self.facts(name)
        if known is None:
            raise FileNotFoundError(f"{self._place}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name contains the tag of the object, so that a later attempt resumes the same content.
        temporary = path.with_name(f".{path.name}.{re.sub('[^0-9a-zA-Z]', '', known.tag)[:32]}.partial")
        with temporary.open("ab") as file:
            while (start := file.tell()) < known.size:
                stop = min(start + _FETCHED, known.size)
                file.write(self._part(name, known.tag, start, stop))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _part(self, name: str, tag: str, start: int, stop: int) -> memoryview:
        options: Any = {"range": (start, stop)} | ({"if_match": tag} if tag else {})
        try:
            response = self._asked(lambda: obstore.get(self._client, name, options=options))
        except Overtaken:
            raise StorageError(f"{self._place}/{name} was replaced while it was read: run the command again") from None
        return memoryview(self._asked(response.bytes))

    def facts(self, name: str) -> Facts | None:
        try:
            meta = self._head(name)
        except FileNotFoundError:
            return None
        return Facts(name, meta["size"], meta["e_tag"] or "")

    def written(self, name: str) -> datetime:
        """Return the time of an object's last write, by the clock of the store; raise FileNotFoundError if missing."""
        return self._head(name)["last_modified"]

    def _head(self, name: str) -> Any:
        response = self._asked(lambda: obstore.get(self._client, name, options={"head": True}))
        self._refuse_page(name, response.attributes)
        return response.meta

    def _refuse_page(self, name: str, attributes: Mapping[Any, Any]) -> None:
        """Raise `StorageError` if the answer is a web page, as of a network that requires a sign-in first."""
        if str(attributes.get("Content-Type", "")).startswith("text/html") and not name.endswith((".html", ".htm")):
            raise StorageError(f"{self._place} {_NO_STORE}")

    def children(self, prefix: str = "") -> list[str]:
        listing = self._asked(lambda: obstore.list_with_delimiter(self._client, _below(prefix)))
        names = [*listing["common_prefixes"], *(meta["path"] for meta in listing["objects"])]
        return sorted({name.rstrip("/").rpartition("/")[2] for name in names} - {""})

    def tree(self, prefix: str = "") -> Iterator[Facts]:
        below = _below(prefix)
        pages = iter(obstore.list(self._client, below))
        while (page := self._asked(lambda: next(pages, None))) is not None:
            for meta in page:
                yield Facts(meta["path"].removeprefix(below or ""), meta["size"], meta["e_tag"] or "")

    def remove(self, name: str) -> None:
        try:
            self._said(lambda: obstore.delete(self._client, name))
        except FileNotFoundError:
            return

    def remove_tree(self, prefix: str) -> None:
        names: list[str] = []
        for entry in self.tree(prefix):
            names.append(f"{_below(prefix) or ''}{entry.name}")
            if len(names) == _REMOVED:
                self._remove_all(names)
                names = []
        self._remove_all(names)

    def _remove_all(self, names: list[str]) -> None:
        if names:
            self._said(lambda: obstore.delete(self._client, names))

    def zarr(self, name: str, *, read_only: bool) -> Any:
        from zarr.storage import ObjectStore

        client = connect(f"{self._place}/{name}", patient=self._patient, sending=True) if name else self._sender
        return ObjectStore(client, read_only=read_only)

    def _asked(self, call: Callable[[], T]) -> T:
        """Return the result of a call without side effects: as `_said`, but a signal does not wait for the answer."""
        return self._said(lambda: interruptible(call))

    def _said(self, call: Callable[[], T]) -> T:
        """Return the result of a call; retry refused connections if patient, and translate errors of the client.

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
                    refused = any(mark in str(error) for mark in _NOT_CONNECTED) and not _is_silence(str(error))
                    if not (self._patient and refused and time.monotonic() - start < _PATIENT[2]):
                        raise
                time.sleep(_AGAIN_S)
        except (AlreadyExistsError, PreconditionError):
            raise Overtaken(f"{self._place} is being written to by another run") from None
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                raise
            raise storage_error(self._place, error) from None
        except (BaseError, ValueError) as error:
            raise storage_error(self._place, error) from None


@contextmanager
def translated(place: str) -> Iterator[None]:
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
    connecting, request, retrying, retries = _PATIENT if patient else _QUICK
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=connecting),
        "timeout": timedelta(seconds=request),
        "allow_http": _allows_http(),
    }
    if not sending:
        client["read_timeout"] = timedelta(seconds=SILENCE_S)
    # A store that accepted a request and stayed silent is not asked again: `_said` retries only refused connections.
    retry_s = min(retrying, max(1, SILENCE_S - 1))
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=retry_s)}
    options: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if place.startswith("s3://"):
        provider = _profile_credentials()
        if provider is not None:
            options["credential_provider"] = provider
    # Names are literal, but the client would decode percent escapes in the URL.
    scheme, _, name = place.partition("://")
    return from_url(f"{scheme}://{quote(name)}", **options)


def _allows_http() -> bool:
    """Return whether the user's environment allows HTTP without encryption, for a private server."""
    allowed = (os.environ.get(f"{cloud}_ALLOW_HTTP", "") for cloud in ("AWS", "GOOGLE", "AZURE"))
    endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"))
    return any(word.lower() in ("true", "1") for word in allowed) or any(url.startswith("http://") for url in endpoints)


def _profile_credentials() -> Any:
    """Return credentials from the profile files of boto3; None without any, or if the environment has others."""
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


def _is_silence(text: str) -> bool:
    """Return whether a message of the client reports an answer that did not come in time."""
    return any(mark in text for mark in ("timed out", "kind: Timeout", "TimedOut"))


def _below(prefix: str) -> str | None:
    return f"{prefix.rstrip('/')}/" if prefix else None


def storage_error(place: str, error: Exception) -> StorageError:
    """Return a `StorageError` that explains in one line why a request to an object store failed."""
    scheme, _, name = place.partition("://")
    bucket = f"{scheme}://{name.partition('/')[0]}"
    text = str(error)
    status = re.search(r"status code: (\d+)", text)
    duration = re.search(r" in (\d+(?:\.\d+)?)s\b", text) if _is_silence(text) else None
    silent = f"nothing came in {float(duration[1]):.0f} s; " if duration else ""
    reason = f"{place} cannot be used ({(text.splitlines() or [type(error).__name__])[0].partition(' - ')[0]})"
    for marks, message in (
        (
            ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"),
            f"there is no bucket {bucket}: make it, or choose another",
        ),
        (
            ("169.254.169.254", "metadata.google", "Account must be specified", "credentials", "token request"),
            f"{place} needs credentials and none were found: {_HINTS[scheme]}",
        ),
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401 Unauthorized"),
            f"the credentials are not taken for {place}: renew or correct them",
        ),
        (
            ("403 Forbidden", "AccessDenied"),
            f"no permission for {place}: have it given to these credentials, or choose another",
        ),
        (_NOT_STORES, f"{place} {_NO_STORE}"),
        (
            ("redirect", "PermanentRedirect", "AuthorizationHeaderMalformed"),
            f"{bucket} is in another region: set AWS_REGION to it",
        ),
        (
            ("error sending request", "operation timed out", "HTTP error", "timed out"),
            f"{place} cannot be reached: {silent}look at the network, and at AWS_ENDPOINT_URL where it is a server of your "
            "own",
        ),
    ):
        if any(mark in text for mark in marks):
            return StorageError(message)
    if status is not None:
        reason = f"{place} cannot be used now (the server answers {status[1]})"
    return StorageError(f"{reason}: try again later")


_NO_STORE = (
    "is answered by a web page, not by an object store: sign in to this network in a browser, or correct AWS_ENDPOINT_URL"
)
#: Messages of the client about answers that do not come from an object store.
_NOT_STORES = (
    "error following redirect", "302 Found", "303 See Other", "Received non-partial response", "Got invalid",
    "unknown variant `head`", "unknown variant `body`", "Unable to extract metadata from headers",
)  # fmt: skip

_HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
