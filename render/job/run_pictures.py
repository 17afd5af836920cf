"""The finished pictures of a run: in its home, in its record, and as copies elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from render.config.schema import Config
from render.errors import UserError
from render.job.copies import Copies, picture_sha256
from render.job.run_home import RunHome
from render.job.run_recorder import RunRecorder
from render.job.targets import Target, probe_url, refuse_unwritable
from render.storage.url import Place


class RunPictures:
    """The pictures that a job wants of its run.

    They always lie in the run's home; `output.path` and paths in `output.also` get copies. A picture that is not as a run
    recorded it is only replaced with `overwrite=true`.
    """

    def __init__(
        self, config: Config, digest: str, targets: tuple[Target, ...], home: RunHome, recorder: RunRecorder
    ) -> None:
        """Remember where pictures go; nothing is read or written.

        Args:
            config: The job's config.
            digest: Digest of the run.
            targets: The pictures to make, that of `output.format` first, with paths in `home.path`.
            home: Place of the run.
            recorder: Writer of the run's record.
        """
        self.targets = targets
        self._digest, self._overwrite = digest, config.overwrite
        self._home, self._recorder = home, recorder
        self._copies = Copies(config, digest, recorder.current, recorder.save)
        #: Recorded entries of the pictures that lie in the home, by name.
        self._entries: dict[str, Any] = {}

    def place(self, target: Target) -> Place:
        """Return the place of a picture in the run's home."""
        return self._home.picture_place(target.path.name)

    def exists(self, target: Target) -> bool:
        """Return whether anything in the run's home has the picture's name."""
        return self._home.has(target.path.name)

    def missing(self, style: str) -> list[Target]:
        """Return the pictures that do not exist yet in this style.

        A style is a digest of all that decides a picture's bytes: see `render.job.pictures.style_digest`.
        """
        entries = self._recorder.read().record.get("pictures", {})
        return [target for target in self.targets if not self._is_recorded(target, entries, style)]

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise `UserError` if a picture or copy would replace foreign files, or cannot be written."""
        self._check_changed(record.get("pictures", {}))
        self._copies.learn(record)
        self._check_copies()

    def _check_changed(self, entries: Mapping[str, Any]) -> None:
        """Raise `UserError` if a picture in the home has changed and may not be replaced."""
        changed = [target for target in self.targets if self.exists(target) and not self._is_recorded(target, entries)]
        if changed and not self._overwrite:
            names = ", ".join(str(self.place(target)) for target in changed)
            is_not, it = ("are not", "them") if len(changed) > 1 else ("is not", "it")
            raise UserError(f"{names} {is_not} as the run left {it}: move {it} away, or overwrite=true to replace {it}")
        for target in changed:
            self._home.check_replaceable(target.path.name, tree=target.is_directory)

    def _check_copies(self) -> None:
        """Raise `UserError` if a copy would replace what no run wrote, or cannot be written."""
        copies = [
            (copy, target.is_directory)
            for target in self.targets
            for copy in target.copies
            if not self._home.is_copied_by_storing(target.path.name, copy)
        ]
        for copy, tree in copies:
            self._copies.check(copy, tree=tree)
        for url in {copy.rpartition("/")[0] for copy, _ in copies if isinstance(copy, str)}:
            probe_url(url)
        for directory in {self._home.path, *(copy.parent for copy, _ in copies if isinstance(copy, Path))}:
            refuse_unwritable(directory)

    def _is_recorded(self, target: Target, entries: Mapping[str, Any], style: str | None = None) -> bool:
        """Return whether the picture in the home is the recorded one, in this style if any."""
        entry = entries.get(target.path.name)
        if entry is None or style not in (None, entry["style"]):
            return False
        if style is not None and target.panels and entry.get("form", target.form) != target.form:
            return False
        return self._home.has_recorded_picture(target.path.name, entry)

    def continue_record(self) -> None:
        """Take over the pictures of the stored record: until they are replaced, they stay recorded."""
        self._entries = self._recorder.read().record.get("pictures", {})

    @property
    def recorded_pictures(self) -> dict[str, Any]:
        """Entries of the pictures for the beginning of a record, by name."""
        return self._entries

    @property
    def recorded_copies(self) -> dict[str, Any]:
        """Entries of the copies in object stores for the beginning of a record, by URL."""
        return self._copies.stored

    def make_room(self, target: Target) -> None:
        """Prepare the place of a picture.

        A directory that an older version left without a marker gets one.
        """
        entry = self._recorder.read().record.get("pictures", {}).get(target.path.name)
        if target.is_directory and entry is not None:
            self._home.adopt_picture(target.path.name, entry["sha256"], self._digest)

    def add(self, target: Target, style: str) -> None:
        """Store and record a picture that has been written to its path."""
        name, entries = target.path.name, self._recorder.record.get("pictures", {})
        entry: dict[str, Any] = {"sha256": picture_sha256(target.path), "style": style}
        if target.panels:
            # Panels of all formats have the same name.
            entry["form"] = target.form
        if self._home.is_remote:
            # If the run is killed while sending, its next start knows the partial picture as its own.
            self._recorder.save(pictures={**entries, name: {**entry, "style": "", "sending": True}})
        entry |= self._home.store_picture(name)
        self._recorder.save(pictures={**entries, name: entry})

    def store_unrecorded(self, target: Target) -> None:
        """Store a picture that has been written to its path, without changing the record."""
        self._home.store_picture(target.path.name)

    def publish(self) -> list[Place]:
        """Copy finished pictures to where the config wants them.

        Return their places, copies instead of originals.

        Raises `UserError` if one cannot be copied; the picture in the home stays in any case.
        """
        record = self._recorder.read().record
        entries = record.get("pictures", {})
        self._copies.learn(record)
        places: list[Place] = []
        for target in self.targets:
            for copy in target.copies:
                self._publish_copy(target, copy, entries.get(target.path.name))
            places += target.copies or [self.place(target)]
            self._home.release_picture(target.path.name)
        return places

    def _publish_copy(self, target: Target, copy: Place, entry: Mapping[str, Any] | None) -> None:
        """Write one copy of a picture, unless a transfer would only repeat what is there."""
        if self._home.is_copied_by_storing(target.path.name, copy):
            return
        needs_transfer = self._home.is_remote or isinstance(copy, str)
        if needs_transfer and self._copies.has(copy, entry):
            return
        self._home.fetch_picture(target.path.name)
        self._copies.write(target.path, copy)
