"""Storage in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Credentials are found as each cloud's own tools find them: environment, the machine's role, web identity, and, where boto3
is installed, its profile files. None is ever written down.
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

#: Parts in which a file is sent: stores take 10,000 of them at most.
_PART, _PARTS = 16 << 20, 9000
#: Parts in which one is fetched.
_FETCHED = 32 << 20
#: Objects that one request removes at most.
_REMOVED = 1000
#: Seconds: to connect, for one request, and until it is not tried again; and how often it is at most. For who waits at a
#: prompt, and for who has hours of work: there the seconds count, as connections may be refused many times in a few.
_QUICK, _PATIENT = (4, 12, 8, 2), (10, 120, 180, 1000)
#: Seconds without a byte after which a store that took the request is not waited for; a part that is sent has the whole
#: time of a request, as the answer comes after it.
SILENCE_S = 60
#: Seconds between two tries to connect to a store.
_AGAIN_S = 2.0
#: What the client says where a connection does not come about.
_NOT_CONNECTED = ("error sending request", "Connection refused")


class ObjectStorage:
    """The objects whose names begin with a URL. Pickled by that URL."""

    def __init__(self, place: str, *, patient: bool = False) -> None:
        self._place = place
        self._patient = patient
        self._client = self._said(lambda: connect(place, patient=patient))
        # Of its own, as an answer to much that is sent may be long in coming.
        self._sender = self._said(lambda: connect(place, patient=patient, sending=True)) if patient else self._client

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._place, self._patient)

    @property
    def place(self) -> str:
        return self._place

    def load(self, name: str) -> tuple[bytes, Version]:
        found = self._asked(lambda: obstore.get(self._client, name))
        self._refuse_page(name, found.attributes)
        return bytes(self._asked(found.bytes)), Version(found.meta["e_tag"], found.meta["version"])

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
            # An answer that was lost on its way makes the client ask again, and meet its own writing.
            try:
                found, version = self.load(name)
            except FileNotFoundError:
                found = b""
            if found == data:
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
        # Named by what it is the beginning of: whoever comes again goes on with it.
        temporary = path.with_name(f".{path.name}.{re.sub('[^0-9a-zA-Z]', '', known.tag)[:32]}.partial")
        with temporary.open("ab") as file:
            while (have := file.tell()) < known.size:
                stop = min(have + _FETCHED, known.size)
                file.write(self._part(name, known.tag, have, stop))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _part(self, name: str, tag: str, start: int, stop: int) -> memoryview:
        options: Any = {"range": (start, stop)} | ({"if_match": tag} if tag else {})
        try:
            found = self._asked(lambda: obstore.get(self._client, name, options=options))
        except Overtaken:
            raise StorageError(f"{self._place}/{name} was replaced while it was read: run the command again") from None
        return memoryview(self._asked(found.bytes))

    def facts(self, name: str) -> Facts | None:
        try:
            meta = self._head(name)
        except FileNotFoundError:
            return None
        return Facts(name, meta["size"], meta["e_tag"] or "")

    def written(self, name: str) -> datetime:
        """When an object was written, by the store's clock. Raises FileNotFoundError where there is none."""
        return self._head(name)["last_modified"]

    def _head(self, name: str) -> Any:
        found = self._asked(lambda: obstore.get(self._client, name, options={"head": True}))
        self._refuse_page(name, found.attributes)
        return found.meta

    def _refuse_page(self, name: str, attributes: Mapping[Any, Any]) -> None:
        """Raises `StorageError` where a network that wants a sign-in first answers everything with its web page."""
        if str(attributes.get("Content-Type", "")).startswith("text/html") and not name.endswith((".html", ".htm")):
            raise StorageError(f"{self._place} {_NO_STORE}")

    def children(self, prefix: str = "") -> list[str]:
        found = self._asked(lambda: obstore.list_with_delimiter(self._client, _below(prefix)))
        names = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
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
        for found in self.tree(prefix):
            names.append(f"{_below(prefix) or ''}{found.name}")
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
        """As `_said`, for what changes nothing: a signal need not wait for the answer."""
        return self._said(lambda: interruptible(call))

    def _said(self, call: Callable[[], T]) -> T:
        """What the call returns; what went wrong in one line."""
        begun = time.monotonic()
        try:
            while True:
                try:
                    return call()
                except BaseError as error:
                    refused = any(mark in str(error) for mark in _NOT_CONNECTED) and not _is_silence(str(error))
                    if not (self._patient and refused and time.monotonic() - begun < _PATIENT[2]):
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
    """Turns what the client raises inside into a `StorageError` that names the place."""
    try:
        yield
    except BaseError as error:
        raise storage_error(place, error) from None


def _reopened(place: str, patient: bool) -> ObjectStorage:
    return ObjectStorage(place, patient=patient)


def connect(place: str, *, patient: bool, sending: bool = False) -> Any:
    """The client of an object store, whose names begin after `place`, to send or to read. Asks nothing of it yet."""
    connecting, request, retrying, retries = _PATIENT if patient else _QUICK
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=connecting),
        "timeout": timedelta(seconds=request),
        "allow_http": _allows_http(),
    }
    if not sending:
        client["read_timeout"] = timedelta(seconds=SILENCE_S)
    # One that took a request and was silent is not asked again: only connections that are refused are, by `_said`.
    again = min(retrying, max(1, SILENCE_S - 1))
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=again)}
    options: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if place.startswith("s3://"):
        provider = _profile_credentials()
        if provider is not None:
            options["credential_provider"] = provider
    # A name is meant as it is written, and a URL's escapes would be undone.
    scheme, _, name = place.partition("://")
    return from_url(f"{scheme}://{quote(name)}", **options)


def _allows_http() -> bool:
    """Without encryption only where the user wrote so: for servers of one's own."""
    allowed = (os.environ.get(f"{cloud}_ALLOW_HTTP", "") for cloud in ("AWS", "GOOGLE", "AZURE"))
    endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"))
    return any(word.lower() in ("true", "1") for word in allowed) or any(url.startswith("http://") for url in endpoints)


def _profile_credentials() -> Any:
    """Credentials of boto3's profile files, where nothing nearer has any; None where there are none."""
    nearer = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in nearer) or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    files = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
    there = any(Path(os.environ.get(name, file)).expanduser().exists() for name, file in files)
    if not os.environ.get("AWS_PROFILE") and not there:
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
    """Whether the client's words are about an answer that did not come in time."""
    return any(mark in text for mark in ("timed out", "kind: Timeout", "TimedOut"))


def _below(prefix: str) -> str | None:
    return f"{prefix.rstrip('/')}/" if prefix else None


def storage_error(place: str, error: Exception) -> StorageError:
    """One line for what an object store, or the way to it, had against a request."""
    scheme, _, rest = place.partition("://")
    bucket = f"{scheme}://{rest.partition('/')[0]}"
    text = str(error)
    status = re.search(r"status code: (\d+)", text)
    waited = re.search(r" in (\d+(?:\.\d+)?)s\b", text) if _is_silence(text) else None
    silent = f"nothing came in {float(waited[1]):.0f} s; " if waited else ""
    reason = f"{place} cannot be used ({(text.splitlines() or [type(error).__name__])[0].partition(' - ')[0]})"
    for marks, said in (
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
            return StorageError(said)
    if status is not None:
        reason = f"{place} cannot be used now (the server answers {status[1]})"
    return StorageError(f"{reason}: try again later")


_NO_STORE = (
    "is answered by a web page, not by an object store: sign in to this network in a browser, or correct AWS_ENDPOINT_URL"
)
#: What the client says to answers that no store gives.
_NOT_STORES = (
    "error following redirect", "302 Found", "303 See Other", "Received non-partial response", "Got invalid",
    "unknown variant `head`", "unknown variant `body`", "Unable to extract metadata from headers",
)  # fmt: skip

_HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
