"""What can go wrong between a program and a broker.

BrokerError
├── BrokerUnavailableError    cannot be reached now; the same call may succeed later
├── BrokerRefusedError        the broker said no: credentials, permissions
├── BrokerConfigurationError  the block's own fields are wrong
├── QueueNameError            a queue name that this provider can't hold
├── MessageTooLargeError      a body above the provider's limit
├── MessageNotAllowedError    a header or key that this provider can't hold
├── UnroutableError           no queue takes the message
├── UnsupportedError          an ability that the provider's capabilities rule out
└── LeaseLostError            the delivery has meanwhile been given to somebody else

A driver's own error is always the `__cause__`.
"""


class BrokerError(Exception):
    """Something went wrong between this program and a broker."""


class BrokerUnavailableError(BrokerError):
    """The broker can't be reached now; the same call may succeed later."""


class BrokerRefusedError(BrokerError):
    """The broker refused the call, and will refuse it again until somebody changes something."""


class BrokerConfigurationError(BrokerError):
    """A field of the broker block is wrong."""


class QueueNameError(BrokerError):
    """The queue's name can't be held by this provider."""


class MessageTooLargeError(BrokerError):
    """The message's body is larger than the provider takes."""


class MessageNotAllowedError(BrokerError):
    """A header or a key of the message can't be held by this provider."""


class UnroutableError(BrokerError):
    """The broker has no queue that takes the message, and did not keep it."""


class UnsupportedError(BrokerError):
    """The provider's capabilities rule this out."""


class LeaseLostError(BrokerError):
    """The lease ran out, and the delivery has meanwhile been given to somebody else."""
