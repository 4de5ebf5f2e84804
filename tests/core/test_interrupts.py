"""Claims about `rlstm.core.interrupts`: which signals ask to stop in good order, and which stop at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from rlstm.core import interrupts
from rlstm.core.interrupts import interruptible, seconds_since_request

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Put the handlers back; meanwhile no signal ends the tests."""
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def is_at_once(number: signal.Signals) -> bool:
    """Send a signal; returns whether it stops at once."""
    try:
        send(number)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_asks_to_stop_and_its_handler_is_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptible() as interrupt:
        assert not interrupt.requested()
        assert seconds_since_request() is None
        send(number)
        assert interrupt.requested()
        assert 0 <= (seconds_since_request() or 0.0) < 1
    assert seconds_since_request() is None
    assert signal.getsignal(number) is before


def test_hanging_up_stays_ignored_where_it_is_as_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible() as interrupt:
        send(signal.SIGHUP)
        assert not interrupt.requested()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_ctrl_c_twice_stops_at_once() -> None:
    with interruptible():
        assert not is_at_once(signal.SIGINT)
        assert is_at_once(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminating_twice_is_one_request_unless_time_has_passed(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` sends its signal to the process and to its group; a shell that closes hangs up twice."""
    with interruptible() as interrupt:
        assert not is_at_once(number)
        assert not is_at_once(number)
        assert interrupt.count == 1
        monkeypatch.setattr(interrupts, "_SAME_REQUEST_SECONDS", 0.0)
        assert is_at_once(number)
