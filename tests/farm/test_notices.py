"""Machines that are about to go: how clouds say so, and that a canvas is the same whenever it is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.dreaming.resample import Pixels
from render.farm.events import Noticed, OctaveStarted, Recovered, StepDone
from render.farm.executors import Reference
from render.farm.notice import Notice, Warned, read_aws_action, read_gcp_maintenance, read_gcp_preempted
from render.farm.ray import notice_watch
from render.farm.ray.cloud_metadata import Aws, Gcp, find_service
from render.farm.ray.notice_watch import NoticeWatch, Watcher
from tests.support.dream_in_process import Dream, MendingExecutor, Stop, chunks_of
from tests.support.metadata_server import MetadataServer, metadata_service

TERMINATE = '{"action": "terminate", "time": "2026-03-01T08:22:00Z"}'


# Who keeps the list


def test_a_node_that_was_told_to_go_stays_on_the_list_as_it_was_told_first() -> None:
    """Ray forgets a node that is gone, and whoever asks later must not use one of its name."""
    answers = [{"n1": Warned("first", 10.0)}, {"n1": Warned("again"), "n2": Warned("second")}, {}]
    watch = NoticeWatch(lambda: answers[0])
    try:
        assert watch.leaving_nodes == {"n1": Warned("first", 10.0)}
        assert watch.draining_nodes == {"n1"}
        for answer, draining in ((answers[1], {"n1", "n2"}), (answers[2], set())):
            watch._read = lambda answer=answer: answer
            watch._read_once()
            assert watch.leaving_nodes == {"n1": Warned("first", 10.0), "n2": Warned("second")}
            assert watch.draining_nodes == draining
    finally:
        watch.close()


def test_a_list_that_cannot_be_asked_for_is_said_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> dict[str, Warned]:
        raise RuntimeError("no such table")

    watch = NoticeWatch(read)
    try:
        watch._try(watch._read_once)
        assert watch.leaving_nodes == {}
        assert caplog.text.count("no such table") == 1
    finally:
        watch.close()


# How clouds word it


def test_what_aws_says_of_a_spot_instance() -> None:
    warned = read_aws_action(TERMINATE)
    assert warned == Warned("AWS will terminate its spot instance", 1772353320.0)
    assert warned.left(1772353200.0) == 120
    assert read_aws_action('{"action": "hibernate"}') == Warned("AWS will hibernate its spot instance")
    assert read_aws_action('{"action": "stop", "time": "soon"}') == Warned("AWS will stop its spot instance")


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "<html>", '{"action": "none"}', '{"action": ["stop"]}', "7"])
def test_what_is_no_notice_of_aws(text: str) -> None:
    assert read_aws_action(text) is None


@given(st.text())
def test_whatever_a_service_answers_is_read_without_an_error(text: str) -> None:
    for warning in (read_aws_action(text), read_gcp_preempted(text, 0.0), read_gcp_maintenance(text)):
        assert warning is None or warning.reason


def test_what_google_says_of_a_machine() -> None:
    assert read_gcp_preempted("TRUE\n", 100.0) == Warned("Google Cloud takes its spot machine back", 130.0)
    assert read_gcp_preempted("FALSE", 100.0) is None
    assert read_gcp_maintenance("TERMINATE_ON_HOST_MAINTENANCE") == Warned(
        "Google Cloud will stop its machine for maintenance"
    )
    # Moved while it runs, it goes on.
    assert read_gcp_maintenance("MIGRATE_ON_HOST_MAINTENANCE") is None
    assert read_gcp_maintenance("NONE") is None


def test_a_notice_says_how_long_there_is() -> None:
    assert str(Notice((0,), "Ray is emptying its node", 29.6)) == "Ray is emptying its node, in 30 s"
    assert str(Notice((0,), "Ray is emptying its node", -3.0)) == "Ray is emptying its node, in 0 s"
    assert str(Notice((0,), "Ray is emptying its node")) == "Ray is emptying its node"


# Services that answer


@pytest.fixture
def service() -> Iterator[MetadataServer]:
    with metadata_service() as server:
        yield server


def test_aws_is_asked_with_a_token_and_again_when_it_is_refused(service: MetadataServer) -> None:
    aws = Aws(service.url)
    assert aws.read_warning() is None
    service.action = TERMINATE
    assert aws.read_warning() == read_aws_action(TERMINATE)
    aws._token = "one that has run out"
    assert aws.read_warning() is None
    assert aws.read_warning() == read_aws_action(TERMINATE)
    assert service.requests.count("PUT /latest/api/token") == 2


def test_google_is_asked_for_both_that_end_a_machine(service: MetadataServer) -> None:
    google = Gcp(service.host)
    assert google.read_warning() is None
    service.maintenance = "TERMINATE_ON_HOST_MAINTENANCE"
    assert google.read_warning() == Warned("Google Cloud will stop its machine for maintenance")
    service.preempted = "TRUE"
    warned = google.read_warning()
    assert warned is not None
    assert "spot" in warned.reason


def test_the_cloud_is_found_by_who_answers(service: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "127.0.0.1:9"
    monkeypatch.setenv("GCE_METADATA_HOST", nobody)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{nobody}")
    # A proxy is not where a machine hears of itself.
    monkeypatch.setenv("http_proxy", service.url)
    assert find_service() is None
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    assert isinstance(find_service(), Aws)
    monkeypatch.setenv("GCE_METADATA_HOST", service.host)
    assert isinstance(find_service(), Gcp)


def test_a_watcher_answers_at_the_first_notice(service: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice_watch, "_REQUEST_PERIOD_S", 0.01)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    assert Watcher().watch(60) == (False, None)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    watcher = Watcher()
    assert watcher.watch(0.05) == (True, None)
    service.action = TERMINATE
    assert watcher.watch(60) == (True, read_aws_action(TERMINATE))


# The canvas


class Notified(Stop):
    """Notice at the n-th moment, which is no request to stop."""

    def check(self) -> None:
        """A wait of the conductor looks for notices by itself."""


class ComingAndGoing(MendingExecutor):
    """Executor of which one worker's machine gives notice when a stop is requested, and workers join at checkpoints."""

    joins = False
    waiting = 0

    def poll(self, references: Sequence[Reference], *, heard: bool) -> list[Reference]:
        return [reference for reference in references if reference.is_ready]

    def notices(self) -> list[Notice]:
        return [Notice((0,), "spot", 100.0)] if self.stop.take() else []

    def retire(self, workers: Sequence[int]) -> None:
        assert list(workers) == [0]
        # Who is let go takes along what it held; whoever stays is given its share anew.
        del self._workers[0]

    def joining(self) -> int:
        self.waiting += self.joins
        return self.waiting

    def grow(self) -> int:
        joined, self.waiting = self.waiting, 0
        self._workers += [self._make() for _ in range(joined)]
        return joined


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    with chunks_of(64):
        return Dream(tmp_path_factory.mktemp("straight")).run(Stop())[0]


def test_a_notice_at_any_moment_leaves_the_same_canvas(tmp_path: Path, straight: Pixels) -> None:
    """Within an octave no step is made twice, even where only the notice has the canvas saved."""
    notice_count = 0
    for every in (0.0, 1e9):
        for moment in range(1, 40, 3):
            dream = Dream(tmp_path / f"{every:g}-{moment}")
            with chunks_of(64):
                canvas, events = dream.run(Notified(moment), workers=3, every=every, kind=ComingAndGoing)
            assert canvas.tobytes() == straight.tobytes()
            assert not any(isinstance(event, Recovered) for event in events)
            noticed = [event for event in events if isinstance(event, Noticed)]
            steps = [(event.octave.index, event.step) for event in events if isinstance(event, StepDone)]
            assert steps == [(octave, step) for octave in range(2) for step in range(3)]
            for event in noticed:
                notice_count += 1
                assert (event.gone, event.workers, event.reason) == (1, 2, "spot, in 100 s")
                earlier = events[: events.index(event)]
                assert event.saved or not any(isinstance(other, StepDone) for other in earlier)
    assert notice_count > 20


def test_workers_that_join_within_an_octave_leave_the_same_canvas(tmp_path: Path, straight: Pixels) -> None:
    """Dealt anew at a checkpoint only where that makes more blocks; at an octave's start all who are ready come in."""
    kind = type("Kind", (ComingAndGoing,), {"joins": True})
    with chunks_of(64):
        canvas, events = Dream(tmp_path).run(workers=1, kind=kind)
    assert canvas.tobytes() == straight.tobytes()
    started = [(event.octave.index, event.steps, event.workers) for event in events if isinstance(event, OctaveStarted)]
    assert started == [(0, 0, 1), (0, 1, 2), (1, 0, 3)]
    steps = [(event.octave.index, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == [(octave, step) for octave in range(2) for step in range(3)]
