"""The settings of the site: those about mail, and the least of the others."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for trying it out only")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"

EMAIL_BACKEND = "mailproxy.contrib.django.EmailBackend"
MAILPROXY_URL = os.environ.get("MAILPROXY_URL", "http://127.0.0.1:8000")
MAILPROXY_TOKEN = os.environ.get("MAILPROXY_TOKEN")
DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
