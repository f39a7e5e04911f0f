from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class HoldfastAdminConfig(AdminConfig):
    """Django's admin with our site in the place of its own."""

    default_site = "runtime_site.admin_site.HoldfastAdminSite"
