"""Which addresses are private and which are multicast, for whole columns of them."""

import numpy as np
import numpy.typing as npt

from pipeline.features.arrays import Mask

Addresses = npt.NDArray[np.uint8]
"""Shape (n, 16), C-contiguous: IPv6, or IPv4 mapped into ::ffff:0:0/96."""

Words = npt.NDArray[np.uint32]

Block = tuple[int, int]
"""The first bits of the addresses of a block, and how many other bits a 32-bit word of it has."""

PRIVATE_V4: tuple[Block, ...] = (
    (10, 24),  # 10.0.0.0/8
    (127, 24),  # 127.0.0.0/8, loopback
    (0xAC1, 20),  # 172.16.0.0/12
    (0xC0A8, 16),  # 192.168.0.0/16
    (0xA9FE, 16),  # 169.254.0.0/16, link-local
)
PRIVATE_V6: tuple[Block, ...] = (
    (0xFC >> 1, 25),  # fc00::/7
    (0xFE80 >> 6, 22),  # fe80::/10, link-local
)
MULTICAST_V4: tuple[Block, ...] = ((0xE, 28), (0xFFFFFFFF, 0))  # 224.0.0.0/4 and the broadcast address
MULTICAST_V6: tuple[Block, ...] = ((0xFF, 24),)  # ff00::/8


def is_private(addresses: Addresses) -> Mask:
    """Return which addresses have no owner on the public network: private, link-local, loopback."""
    words = _words(addresses)
    head_empty = (words[0] == 0) & (words[1] == 0)
    loopback = head_empty & (words[2] == 0) & (words[3] <= 1)
    return _either(words, head_empty, PRIVATE_V4, _within(words[0], PRIVATE_V6) | loopback)


def is_multicast(addresses: Addresses) -> Mask:
    """Return which addresses stand for many hosts: multicast, and the IPv4 broadcast address."""
    words = _words(addresses)
    head_empty = (words[0] == 0) & (words[1] == 0)
    return _either(words, head_empty, MULTICAST_V4, _within(words[0], MULTICAST_V6))


def _words(addresses: Addresses) -> Words:
    """Return the four 32-bit words of each address, (4, n)."""
    return np.ascontiguousarray(addresses.view(">u4").T).astype(np.uint32)


def _within(words: Words, blocks: tuple[Block, ...]) -> Mask:
    mask: Mask = np.zeros(words.shape, dtype=np.bool_)
    for first_bits, n_other in blocks:
        mask |= (words >> np.uint32(n_other)) == first_bits
    return mask


def _either(words: Words, head_empty: Mask, v4: tuple[Block, ...], v6: Mask) -> Mask:
    """Return what holds of mapped IPv4 addresses by their last word, of others by `v6`."""
    is_v4 = head_empty & (words[2] == 0xFFFF)
    return np.asarray(np.where(is_v4, _within(words[3], v4), v6))
