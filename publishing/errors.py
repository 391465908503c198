"""Errors of publishing, in words for whoever publishes."""


class PublishError(Exception):
    """Something cannot be published. The text says what, why and what to do, and never contains a token."""
