"""Which addresses a receiver may have, so that a URL cannot make us talk to what is inside.

A name is resolved once, all its addresses must be allowed, and the connection goes to the very address that was checked: a name
that resolves to something else a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

#: Where clouds keep credentials and machine settings, some of it at public addresses.
_METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
#: What Python's own tables do not call private in every release.
_SPECIAL = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "fec0::/10")
)
#: What an IPv6-only cluster reaches an IPv4 receiver by (RFC 6052): the last 32 bits are where the packet ends.
_NAT64 = IPv6Network("64:ff9b::/96")


class Unreachable(Exception):
    """No connection can be tried.

    Args:
        reason: CamelCase word: NameUnknown, AddressRefused.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def resolve(host: str, port: int, allow_private: bool) -> str:
    """The address to connect to.

    Args:
        host: name or literal address, as in the URL.
        port: only asked along.
        allow_private: also private and loopback ones; never metadata, multicast or unspecified ones.

    Raises:
        Unreachable: there is none, or one of them is not allowed.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable("NameUnknown") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_allowed(address, allow_private) for address in addresses):
        raise Unreachable("AddressRefused")
    return addresses[0]


def is_allowed(text: str, allow_private: bool = False) -> bool:
    """Whether a receiver may be at this address."""
    if "%" in text:
        # A zone index is there for link-local addresses alone.
        return False
    return all(_is_allowed(address, allow_private) for address in _meanings(ip_address(text)))


def _meanings(address: Address) -> list[Address]:
    """The address, and those that hide in it."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    hidden: list[Address] = []
    if address.sixtofour is not None:
        hidden.append(address.sixtofour)
    if address.teredo is not None:
        hidden += address.teredo
    return [address, *hidden]


def _is_allowed(address: Address, allow_private: bool) -> bool:
    if address in _METADATA or address.is_multicast or address.is_unspecified:
        return False
    if address.is_link_local or any(address in net for net in _SPECIAL):
        return allow_private and not address.is_link_local and not address.is_reserved
    return allow_private or (address.is_global and not address.is_reserved)
