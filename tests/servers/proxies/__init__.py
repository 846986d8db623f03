"""Trouble on the wire, on demand: proxies in front of the real servers."""

from tests.servers.proxies.api_proxy import BULK_CREATE, ApiProxy
from tests.servers.proxies.tcp_proxy import TcpProxy

__all__ = ["BULK_CREATE", "ApiProxy", "TcpProxy"]
