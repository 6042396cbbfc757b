"""Monlight in web frameworks. Each module needs its framework, except `asgi` and `wsgi`, which need none."""
