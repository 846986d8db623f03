"""Websockets through the API proxy: Prefect's clients send events and wait for them on these."""

import asyncio

import aiohttp
from aiohttp import web
from yarl import URL

_FORWARDED = ("authorization", "cookie", "origin")

_End = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


async def tunnel(
    request: web.Request, client: aiohttp.ClientSession, target: URL
) -> web.WebSocketResponse:
    """Join the client's websocket to one of the server's until either of them closes."""
    protocols = [
        protocol.strip()
        for protocol in request.headers.get("sec-websocket-protocol", "").split(",")
        if protocol
    ]
    headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
    async with client.ws_connect(
        target, protocols=protocols, headers=headers, max_msg_size=0
    ) as upstream:
        downstream = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await downstream.prepare(request)
        pumps = {
            asyncio.create_task(_pump(downstream, upstream)),
            asyncio.create_task(_pump(upstream, downstream)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await downstream.close()
        return downstream


async def _pump(source: _End, sink: _End) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
