"""Calls on Dask workers: where they go, what comes back, what the workers keep, and what is refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import dask
import pytest
from distributed import Client, LocalCluster, get_worker

from storage.errors import ModelError, ServiceError
from tasks.config.settings import ScaleConfig
from tasks.scale.workers import DISTRIBUTION, Workers, open_workers, own_version, worker_state


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a scheduler in this process, with two workers."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def workers(address: str) -> Iterator[Workers]:
    with open_workers(ScaleConfig(runner="dask", address=address)) as opened:
        assert opened is not None
        assert len(opened) == 2
        yield opened


class Counter:
    """How many calls a worker has had."""

    def __init__(self) -> None:
        self.calls = 0


def counted(step: int) -> tuple[str, int]:
    """Address of the worker, and the sum of its steps."""
    counter = worker_state(Counter)
    counter.calls += step
    return get_worker().address, counter.calls


def failed(error: Exception) -> None:
    raise error


def failed_once() -> int:
    counter = worker_state(Counter)
    counter.calls += 1
    if counter.calls == 1:
        raise ModelError("Not yet.", hint="Again.")
    return counter.calls


def content(data: bytes) -> int:
    return len(data)


def test_call_k_goes_to_worker_k_modulo_their_number_which_keeps_its_state(workers: Workers) -> None:
    answers = workers.run(counted, [(number, {"step": 1}) for number in (0, 1, 2, 3, 1)])
    first, second = sorted({worker for worker, _ in answers})
    assert answers == [(first, 1), (second, 1), (first, 2), (second, 2), (second, 3)]
    assert workers.run(counted, [(0, {"step": 1})]) == [(first, 3)], "the same call again is made again"


def test_what_a_call_raises_comes_back_as_itself_and_dask_s_own_errors_in_our_words(workers: Workers) -> None:
    with pytest.raises(ModelError) as caught:
        workers.run(failed, [(0, {"error": ModelError("It is damaged.", hint="Train again.")})])
    assert (caught.value.what, caught.value.hint) == ("It is damaged.", "Train again.")
    with pytest.raises(ServiceError, match=r"\bfailed\b.*12 bytes short"):
        workers.run(failed, [(0, {"error": OSError("12 bytes short")})])


def test_a_call_that_fails_once_is_made_again() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        open_workers(ScaleConfig(runner="dask", address=cluster.scheduler_address)) as workers,
    ):
        assert workers.run(failed_once, [(0, {})]) == [2]


def test_a_call_to_a_worker_that_is_gone_goes_to_another() -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        open_workers(ScaleConfig(runner="dask", address=cluster.scheduler_address)) as workers,
    ):
        (gone, _), (other, _) = workers.run(counted, [(0, {"step": 1}), (1, {"step": 1})])
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            client.retire_workers([gone])
        assert [worker for worker, _ in workers.run(counted, [(0, {"step": 1}), (1, {"step": 1})])] == [other, other]


def test_a_call_that_found_no_worker_goes_to_one_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.scale.workers.CHECK_S", 0.1)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        open_workers(ScaleConfig(runner="dask", address=cluster.scheduler_address)) as workers,
    ):
        assert workers is not None
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            client.retire_workers(list(client.processing()))
            assert not client.processing()
        started = threading.Timer(0.5, cluster.scale, [2])
        started.start()
        assert workers.run(dict, [(0, {"number": 0}), (1, {"number": 1})]) == [{"number": 0}, {"number": 1}]
        started.join()


def test_a_call_that_no_worker_takes_is_an_error(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.scale.workers.CHECK_S", 0.05)
    monkeypatch.setattr("tasks.scale.workers.WAIT_S", 0.2)
    with pytest.raises(ServiceError, match=r"\bdict\b.*\b0\.2\b") as caught:
        list(workers.in_order(dict, [(0, {"number": 0})], {"GPU": 1}))
    assert "--resources" in caught.value.hint


def test_data_is_sent_to_the_workers_once_for_all_calls(workers: Workers) -> None:
    sent = workers.everywhere(b"weights")
    assert list(workers.in_order(content, [(number, {"data": sent}) for number in range(3)])) == [7, 7, 7]


def test_outside_of_a_worker_there_is_no_state_of_one() -> None:
    with pytest.raises(ValueError, match="worker"):
        worker_state(Counter)


def test_a_scheduler_that_does_not_answer_is_reported_with_what_to_type() -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ServiceError, match=r"127\.0\.0\.1:1") as caught,
        open_workers(ScaleConfig(runner="dask", address="tcp://127.0.0.1:1")),
    ):
        pytest.fail("nobody listens there")
    assert "dask scheduler" in caught.value.hint
    assert "dask worker tcp://127.0.0.1:1" in caught.value.hint


def test_a_scheduler_without_workers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.scale.workers.WAIT_S", 0.2)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(ServiceError, match="0/1"),
        open_workers(ScaleConfig(runner="dask", address=cluster.scheduler_address)),
    ):
        pytest.fail("there are none")


def test_workers_of_another_version_are_refused_with_what_to_type(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_version()
    monkeypatch.setattr("tasks.scale.workers.own_version", lambda: "9.9")
    with (
        pytest.raises(ServiceError, match=rf"{re.escape(own)}.*{DISTRIBUTION}") as caught,
        open_workers(ScaleConfig(runner="dask", address=address)),
    ):
        pytest.fail("they do not fit")
    assert f"pip install '{DISTRIBUTION}[cluster]==9.9'" in caught.value.hint
    monkeypatch.setattr("tasks.scale.workers.DISTRIBUTION", "not-installed")
    with (
        pytest.raises(ServiceError, match="not-installed"),
        open_workers(ScaleConfig(runner="dask", address=address)),
    ):
        pytest.fail("it is not installed there")


def test_without_workers_nothing_of_dask_is_asked() -> None:
    with open_workers(ScaleConfig()) as workers:
        assert workers is None
