from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monlight._secrets import is_secret, scrub_headers, scrub_url

SECRET = [
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

HARMLESS = [
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


@pytest.mark.parametrize("name", SECRET)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_one_is_kept(name: str) -> None:
    assert not is_secret(name)


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
def test_urls_lose_their_secrets_and_nothing_else(url: str, expected: str) -> None:
    assert scrub_url(url) == expected


@given(st.text())
def test_no_url_raises(url: str) -> None:
    scrub_url(url)


@given(st.text(alphabet="ab/?&=#@:%[]", max_size=40))
def test_a_password_before_the_host_never_stays(rest: str) -> None:
    assert "s3cret" not in scrub_url(f"https://user:s3cret@{rest}")


def test_headers_are_matched_in_any_case() -> None:
    headers = {"AUTHORIZATION": "1", "cookie": "2", "X-Tenant": "3", "X-Session-Token": "4", "Accept": "5"}
    assert scrub_headers(headers, frozenset({"authorization", "cookie", "x-tenant"})) == {"Accept": "5"}
