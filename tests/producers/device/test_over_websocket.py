"""What a device says to a gateway of the sessions that it follows."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from dsdq.settings import Settings
from dsdq.wire.frames import (
    SUBPROTOCOL,
    Challenge,
    Follow,
    Followed,
    Frame,
    Unfollow,
    Welcome,
    pack_frame,
    unpack_frame,
)
from producers.device.over_websocket import Identity, WebSocketWay
from tests.producers.gateway.raw import contract_of

LIMIT_S = 20


async def heard(socket: ServerConnection) -> Frame:
    return unpack_frame(bytes(await socket.recv()))


async def test_a_session_that_ends_while_the_line_is_down_is_not_followed_when_it_is_back() -> None:
    broken, mended, said = asyncio.Event(), asyncio.Event(), asyncio.Queue[Frame]()

    async def gateway(socket: ServerConnection) -> None:
        if broken.is_set():
            await mended.wait()
        await socket.send(pack_frame(Challenge(bytes(16))))
        await heard(socket)
        await socket.send(pack_frame(Welcome("default", 8, 8, 1 << 20)))
        if not broken.is_set():
            broken.set()
            return
        async for data in socket:
            said.put_nowait(frame := unpack_frame(bytes(data)))
            if isinstance(frame, Follow):
                await socket.send(pack_frame(Followed(frame.id, 0)))

    async with serve(gateway, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        way = WebSocketWay(f"ws://127.0.0.1:{port}", "default", "", Identity(Settings()))
        await way.open()
        while way._line._socket is not None:
            await asyncio.sleep(0.01)
        subscription = way.subscribe(contract_of("s1"))
        await asyncio.sleep(0)  # it waits for the line
        way.unsubscribe(subscription)
        mended.set()
        try:
            async with asyncio.timeout(LIMIT_S):
                frames = [await said.get() for _ in range(2)]
        finally:
            await way.close()
    assert frames == [Follow(1, "s1", 0, 0), Unfollow("s1")]
