import asyncio
import gc

import pytest

from outrider.device.outbox import Outbox, Publication
from outrider.schema.errors import InvalidName, LocalError, MessageTooLarge, PublishRefused, QueueFull


def publication(topic: str = "t", payload: bytes = b"", deadline: float | None = None) -> Publication:
    return Publication(topic, payload, False, deadline, asyncio.get_running_loop().create_future())


def outbox(window: int = 2, max_queued: int = 10) -> Outbox:
    return Outbox("the broker", window=window, max_queued=max_queued)


def send_all(box: Outbox, first_id: int = 1, now: float = 0.0) -> list[Publication]:
    sent: list[Publication] = []
    while (next_ := box.next(now)) is not None:
        box.sent(first_id + len(sent), next_)
        sent.append(next_)
    return sent


async def test_window_limits_what_is_under_way() -> None:
    box = outbox(window=2)
    waiting = [publication(str(number)) for number in range(4)]
    for each in waiting:
        box.put(each)
    assert send_all(box) == waiting[:2]
    box.acknowledged(1, None)
    assert send_all(box, first_id=3) == waiting[2:3]
    assert waiting[0].future.result() is None


async def test_broker_may_make_the_window_smaller_only() -> None:
    box = outbox(window=3)
    for number in range(9):
        box.put(publication(str(number)))
    box.begin(receive_maximum=1, packet_limit=100)
    assert len(send_all(box)) == 1
    box.cut(early=False)
    box.begin(receive_maximum=50, packet_limit=100)
    assert len(send_all(box)) == 3


async def test_cut_puts_back_in_the_order_of_first_sending() -> None:
    box = outbox(window=3)
    everything = [publication(str(number)) for number in range(5)]
    for each in everything:
        box.put(each)
    send_all(box)
    box.acknowledged(2, None)
    box.cut(early=False)
    box.begin(receive_maximum=100, packet_limit=100)
    assert [each.topic for each in send_all(box)] == ["0", "2", "3"]


async def test_full_queue_refuses() -> None:
    box = outbox(max_queued=1)
    box.put(publication())
    with pytest.raises(QueueFull, match="1 messages wait to be sent to the broker, so the one to late"):
        box.put(publication("late"))


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "a" * 65_536, "ä" * 32_768])
def test_ill_formed_topic_is_refused(topic: str) -> None:
    with pytest.raises(InvalidName):
        outbox().check(topic, b"")


def test_too_large_is_refused_with_sizes() -> None:
    box = outbox()
    box.begin(receive_maximum=1, packet_limit=100)
    box.check("topic", bytes(80))
    with pytest.raises(MessageTooLarge, match="to topic has 81 bytes; the broker accepts packets up to 100"):
        box.check("topic", bytes(81))
    box.check("äöüäö", bytes(75))
    with pytest.raises(MessageTooLarge):
        box.check("äöüäö", bytes(76))


async def test_what_the_next_broker_does_not_take_fails() -> None:
    box = outbox()
    large = publication(payload=bytes(200))
    box.put(large)
    box.begin(receive_maximum=1, packet_limit=100)
    assert box.next(0.0) is None
    assert isinstance(large.future.exception(), MessageTooLarge)


async def test_expired_is_not_sent() -> None:
    box = outbox()
    expired, alive = publication("old", deadline=10.0), publication("new", deadline=10.1)
    box.put(expired)
    box.put(alive)
    assert box.next(10.0) is alive
    error = expired.future.exception()
    assert isinstance(error, LocalError)
    assert "old expired" in str(error)


@pytest.mark.parametrize(
    ("deadline", "seconds"), [(None, None), (10.0, 10), (10.5, 11), (0.2, 1), (-5.0, 1), (1e12, 2**32 - 1)]
)
async def test_expiry_is_the_remaining_time(deadline: float | None, seconds: int | None) -> None:
    assert publication(deadline=deadline).expiry(0.0) == seconds


async def test_withdrawn_is_not_sent() -> None:
    box = outbox()
    withdrawn, other = publication("a"), publication("b")
    box.put(withdrawn)
    box.put(other)
    withdrawn.future.cancel()
    assert box.next(0.0) is other


async def test_refusal_fails_the_publication_with_the_reason() -> None:
    box = outbox()
    refused = publication("secret/topic")
    box.sent(7, refused)
    box.acknowledged(7, "Not authorized")
    assert "the broker refused the message to secret/topic (Not authorized)" in str(refused.future.exception())


async def test_unknown_acknowledgement_is_ignored() -> None:
    outbox().acknowledged(99, None)


async def test_message_that_makes_the_broker_hang_up_fails_at_last() -> None:
    box = outbox()
    culprit, innocent = publication("culprit"), publication("innocent")
    box.put(culprit)
    box.put(innocent)
    for _ in range(5):
        assert not culprit.future.done()
        box.begin(receive_maximum=10, packet_limit=100)
        send_all(box)
        box.cut(early=True)
    assert isinstance(culprit.future.exception(), PublishRefused)
    assert send_all(box) == [innocent]


@pytest.mark.parametrize("harmless", ["acknowledged", "late"])
async def test_lost_connections_alone_fail_nothing(harmless: str) -> None:
    box = outbox(window=1)
    waits = publication("waits")
    box.put(waits)
    for number in range(20):
        box.begin(receive_maximum=10, packet_limit=100)
        send_all(box)
        if harmless == "acknowledged":
            box.acknowledged(1000 + number, None)
        box.cut(early=harmless != "late")
    assert not waits.future.done()


async def test_close_fails_all_that_is_left() -> None:
    box = outbox(window=1)
    left = [publication(), publication()]
    for each in left:
        box.put(each)
    send_all(box)
    box.close(LocalError("over"))
    assert [str(each.future.exception()) for each in left] == ["over", "over"]
    assert box.unfinished() == []


async def test_failure_that_nobody_looks_at_stays_silent() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    box = outbox()
    box.sent(1, publication())
    box.acknowledged(1, "Not authorized")
    gc.collect()
    assert complaints == []
