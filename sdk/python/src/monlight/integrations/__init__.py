"""Integrations for web frameworks. Each module requires its framework, except `asgi` and `wsgi`, which require none."""
