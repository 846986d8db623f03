"""pika's connection, with three things mended that a consumer of others' messages depends on."""

# The stubs of pika know nothing of what subclasses override.
# pyright: reportAttributeAccessIssue=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import struct
from collections.abc import Callable
from typing import Any, Final

from pika import BasicProperties, SelectConnection, frame, spec
from pika.channel import Channel
from pika.exceptions import StreamLostError

from blocks.rabbitmq_broker.field_table import read_table

_HEADER_SIZE: Final = 7
#: Class id, weight and body size, before the properties.
_CONTENT_SIZE: Final = 12
_EMPTY_TABLE: Final = b"\0\0\0\0"


class Connection(SelectConnection):
    """A connection that reads any header, and that can be dropped at once.

    To be used in its thread only.
    """

    def abort(self) -> None:
        """Close the socket without a word; closing politely would wait for a server that hangs."""
        if not self.is_closed:
            self._terminate_stream(StreamLostError("given up by this side"))

    def _read_frame(self) -> tuple[int, Any]:
        buffer: bytes = self._frame_buffer
        if len(buffer) < _HEADER_SIZE or buffer[0] != spec.FRAME_HEADER:
            return super()._read_frame()
        _, channel, size = struct.unpack_from(">BHL", buffer)
        end = _HEADER_SIZE + size + spec.FRAME_END_SIZE
        if end > len(buffer) or buffer[end - 1] != spec.FRAME_END:
            return super()._read_frame()
        content = buffer[_HEADER_SIZE : end - 1]
        _, _, body_size = struct.unpack_from(">HHQ", content)
        return end, frame.Header(channel, body_size, read_properties(content[_CONTENT_SIZE:]))

    def _create_channel(self, channel_number: int, on_open_callback: Any) -> Channel:
        return DeliveringChannel(self, channel_number, on_open_callback)


class DeliveringChannel(Channel):
    """A channel that hands on whatever is delivered, whichever consumer it was for.

    pika rejects what comes while a consumer is being cancelled, which quorum queues count as a
    delivery that failed; and forgets what comes after that, so that it belongs to nobody.
    """

    #: Told of each delivery.
    on_delivery: Callable[[spec.Basic.Deliver, BasicProperties, bytes], None] | None = None

    def _on_deliver(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        if self.on_delivery is not None:
            self.on_delivery(method_frame.method, header_frame.properties, body)


def read_properties(encoded: bytes) -> BasicProperties:
    """Read a message's properties: the headers by our own reader, the rest by pika's."""
    flags, offset = 0, 0
    while True:
        (word,) = struct.unpack_from(">H", encoded, offset)
        offset += 2
        flags = flags or word
        if not word & 1:
            break
    if not flags & BasicProperties.FLAG_HEADERS:
        return BasicProperties().decode(encoded)
    for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            offset += 1 + encoded[offset]
    (length,) = struct.unpack_from(">I", encoded, offset)
    start, end = offset + len(_EMPTY_TABLE), offset + len(_EMPTY_TABLE) + length
    properties = BasicProperties().decode(encoded[:offset] + _EMPTY_TABLE + encoded[end:])
    properties.headers = read_table(encoded[start:end])
    return properties
