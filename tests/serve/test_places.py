"""Who has a track, and who is next."""

from __future__ import annotations

import asyncio

import pytest

from avatorch.serve import Limits
from avatorch.serve.places import Places
from avatorch.serve.protocol import Fault, Refusal


def test_first_come_first_served() -> None:
    async def scene() -> list[int]:
        places, served = Places(Limits(tracks=2, waiting=10)), []

        async def client(number: int) -> None:
            await places.take()
            served.append(number)

        await places.take()
        await places.take()
        clients = [asyncio.create_task(client(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert (places.taken, places.waiting) == (2, 5)
        clients[1].cancel()
        for _ in range(4):
            places.give()
        clients[3].cancel()  # its place came at the same moment
        await asyncio.gather(*clients, return_exceptions=True)
        assert places.waiting == 0 and places.taken == 2 + 4 - 4 - (3 not in served)
        return served

    assert asyncio.run(scene()) in ([0, 2, 4], [0, 2, 3, 4])


def test_places_are_not_lost_by_those_who_go() -> None:
    async def scene() -> None:
        changes: list[tuple[int, int]] = []
        places = Places(Limits(tracks=1, waiting=1), lambda *now: changes.append(now))
        await places.take()
        waiting = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await places.take()
        assert refused.value.fault is Fault.BUSY and "all 1 tracks are taken and 1 clips wait" in str(refused.value)
        places.give()
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
        assert changes[-1] == (places.taken, places.waiting) == (0, 0)
        await places.take()

    asyncio.run(scene())


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_limits_are_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"tracks is .*, expected a whole number of at least 1"):
        Limits(tracks=value)  # type: ignore[arg-type]
