"""Webhooks over the wire: who may be a receiver, how a message is signed, how it is sent (docs/webhooks.md)."""
