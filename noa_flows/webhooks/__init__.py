"""Sending webhooks to receivers a message names, and checking those that come back.

A receiver needs only this:

    from noa_flows.webhooks import SignatureError, verify
"""

from noa_flows.webhooks.signatures import SignatureError, verify

__all__ = ["SignatureError", "verify"]
