"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, so that none of them can be changed or replayed."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> Mapping[str, str]:
    """The three headers of a message.

    Args:
        message_id: the same each time the message is sent.
        timestamp: of this sending, in seconds since 1970.
        body: exactly as it goes over the wire.
        keys: one signature each.
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
