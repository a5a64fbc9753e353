"""
A Django site that sends its mail through a mailproxy.

    MAILPROXY_URL=http://127.0.0.1:8000 MAILPROXY_TOKEN=... python manage.py sendtestemail ME
"""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
