"""Which addresses are private and which are multicast, for whole columns of them."""

import numpy as np
import numpy.typing as npt

from pipeline.features.arrays import Mask

Addresses = npt.NDArray[np.uint8]
"""Shape (n, 16): IPv6, or IPv4 mapped into ::ffff:0:0/96."""

MAPPED_PREFIX = np.frombuffer(b"\x00" * 10 + b"\xff\xff", dtype=np.uint8)


def is_ipv4(addresses: Addresses) -> Mask:
    """Return which addresses are IPv4 mapped into IPv6."""
    mask: Mask = (addresses[:, :12] == MAPPED_PREFIX).all(axis=1)
    return mask


def is_private(addresses: Addresses) -> Mask:
    """Return which addresses belong to no one on the public network: private, link-local, loopback."""
    first, second = addresses[:, 12], addresses[:, 13]
    v4 = (first == 10) | (first == 127)
    v4 |= (first == 172) & (second >> 4 == 1)
    v4 |= (first == 192) & (second == 168)
    v4 |= (first == 169) & (second == 254)
    high, next_ = addresses[:, 0], addresses[:, 1]
    loopback = ~addresses[:, :15].any(axis=1) & (addresses[:, 15] <= 1)
    v6 = (high & 0xFE == 0xFC) | ((high == 0xFE) & (next_ >> 6 == 2)) | loopback
    return np.asarray(np.where(is_ipv4(addresses), v4, v6))


def is_multicast(addresses: Addresses) -> Mask:
    """Return which addresses stand for many hosts: multicast, and the IPv4 broadcast address."""
    v4 = (addresses[:, 12] >> 4 == 14) | (addresses[:, 12:] == 255).all(axis=1)
    return np.asarray(np.where(is_ipv4(addresses), v4, addresses[:, 0] == 0xFF))
