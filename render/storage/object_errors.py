"""Errors of the client of object stores, explained in one line with a remedy."""

from __future__ import annotations

import re

from render.errors import StorageError

WEB_PAGE_ANSWER = (
    "is answered by a web page, not by an object store: sign in to this network in a browser, or correct AWS_ENDPOINT_URL"
)
#: Ways to give credentials, by URL scheme.
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
#: Parts of the client's messages and what they mean; the first entry with a part that occurs counts.
_EXPLANATIONS = (
    (
        ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"),
        "there is no bucket {bucket}: make it, or choose another",
    ),
    (
        ("169.254.169.254", "metadata.google", "Account must be specified", "credentials", "token request"),
        "{place} needs credentials and none were found: {credentials}",
    ),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401 Unauthorized"),
        "the credentials are not taken for {place}: renew or correct them",
    ),
    (
        ("403 Forbidden", "AccessDenied"),
        "no permission for {place}: have it given to these credentials, or choose another",
    ),
    (
        (
            "error following redirect",
            "302 Found",
            "303 See Other",
            "Received non-partial response",
            "Got invalid",
            "unknown variant `head`",
            "unknown variant `body`",
            "Unable to extract metadata from headers",
        ),
        f"{{place}} {WEB_PAGE_ANSWER}",
    ),
    (
        ("redirect", "PermanentRedirect", "AuthorizationHeaderMalformed"),
        "{bucket} is in another region: set AWS_REGION to it",
    ),
    (
        ("error sending request", "operation timed out", "HTTP error", "timed out"),
        "{place} cannot be reached: {silence}look at the network, and at AWS_ENDPOINT_URL where it is a server of your own",
    ),
)


def is_silence(text: str) -> bool:
    """Return whether a message of the client reports an answer that did not come in time."""
    return any(mark in text for mark in ("timed out", "kind: Timeout", "TimedOut"))


def storage_error(place: str, error: Exception) -> StorageError:
    """Return a `StorageError` that explains why a request to an object store failed."""
    scheme, _, name = place.partition("://")
    text = str(error)
    duration = re.search(r" in (\d+(?:\.\d+)?)s\b", text) if is_silence(text) else None
    details = {
        "place": place,
        "bucket": f"{scheme}://{name.partition('/')[0]}",
        "credentials": _CREDENTIALS[scheme],
        "silence": f"nothing came in {float(duration[1]):.0f} s; " if duration else "",
    }
    for marks, message in _EXPLANATIONS:
        if any(mark in text for mark in marks):
            return StorageError(message.format(**details))
    status = re.search(r"status code: (\d+)", text)
    if status is not None:
        return StorageError(f"{place} cannot be used now (the server answers {status[1]}): try again later")
    reason = (text.splitlines() or [type(error).__name__])[0].partition(" - ")[0]
    return StorageError(f"{place} cannot be used ({reason}): try again later")
