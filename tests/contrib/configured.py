"""Django's settings for all tests of this process."""

from __future__ import annotations

from django.conf import settings


def configure() -> None:
    """Make Django usable; it may be told once only."""
    if not settings.configured:
        settings.configure(
            EMAIL_BACKEND="mailproxy.contrib.django.EmailBackend",
            DEFAULT_FROM_EMAIL="Shop <shop@example.com>",
        )
