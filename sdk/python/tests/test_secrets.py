"""Detection of secrets by name, and their removal from URLs and headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monlight._secrets import is_secret_name, scrub_headers, scrub_url

SECRET_NAMES = [
    "password",
    "Password",
    "db_password",
    "dbPassword",
    "PASSWORD_HASH",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "clientSecret",
    "token",
    "authtoken",
    "access_token",
    "accessToken",
    "X-Auth-Token",
    "refresh-token",
    "csrf",
    "csrfmiddlewaretoken",
    "XSRF-TOKEN",
    "jwt",
    "api_key",
    "apiKey",
    "APIKey",
    "apikey",
    "X-Api-Key",
    "x-monlight-key",
    "private_key",
    "secret_key",
    "aws_secret_access_key",
    "Authorization",
    "auth",
    "proxy-authorization",
    "cookie",
    "Set-Cookie",
    "cookies",
    "session",
    "sessionid",
    "session_id",
    "PHPSESSID",
    "credentials",
    "signature",
    "sig",
    "otp",
    "pin",
    "cvv",
    "card_number",
    "credit-card",
    "cardNumber",
    "ssn",
    "passphrase",
]

NON_SECRET_NAMES = [
    "author",
    "authority",
    "tokenizer",
    "max_tokens",
    "prompt_tokens",
    "key",
    "cache_key",
    "primaryKey",
    "keyboard",
    "monkey",
    "passenger",
    "compass",
    "secretary",
    "cookiecutter",
    "username",
    "user_id",
    "email",
    "sessions_total",
    "pinned",
    "spinner",
    "signal",
    "design",
    "accept",
    "content-type",
    "user-agent",
    "x-request-id",
    "referer",
    "cart",
    "name",
    "id",
    "page",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secret_names_are_detected(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", NON_SECRET_NAMES)
def test_similar_names_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


URLS = [
    ("/cart?id=7", "/cart?id=7"),
    ("https://u:p@shop.example:8443/a?b=1", "https://shop.example:8443/a?b=1"),
    ("/a?token=1&b=2&TOKEN=3", "/a?token=[removed]&b=2&TOKEN=[removed]"),
    ("/a?api%5Fkey=1", "/a?api%5Fkey=[removed]"),
    ("/a?key=1", "/a?key=[removed]"),
    ("/a?user[password]=1", "/a?user[password]=[removed]"),
    ("/a?flag&b=", "/a?flag&b="),
    ("/a#access_token=1&state=2", "/a#access_token=[removed]&state=2"),
    ("/a#section", "/a#section"),
    ("http://[broken/?token=1", "http://[broken/"),
    ("", ""),
]


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_only_secrets_are_removed_from_urls(url: str, expected: str) -> None:
    assert scrub_url(url) == expected


@given(st.text())
def test_invalid_url_does_not_raise(url: str) -> None:
    scrub_url(url)


@given(st.text(alphabet="ab/?&=#@:%[]", max_size=40))
def test_password_before_the_host_is_always_removed(rest: str) -> None:
    assert "s3cret" not in scrub_url(f"https://user:s3cret@{rest}")


def test_header_names_are_case_insensitive() -> None:
    headers = {"AUTHORIZATION": "1", "cookie": "2", "X-Tenant": "3", "X-Session-Token": "4", "Accept": "5"}
    assert scrub_headers(headers, frozenset({"authorization", "cookie", "x-tenant"})) == {"Accept": "5"}
