"""Secrets that a test plants in the requests, environment and variables of the applications `planted_*`."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

logger = logging.getLogger("planted")
# Celery sets the level of the root logger.
logger.setLevel(logging.ERROR)
# The text of a secret does not reveal that it is one, and is the same in every process.
SECRETS = {
    name: "q" + hashlib.sha256(name.encode()).hexdigest()[:17]
    for name in (
        "path",
        "matrix parameter",
        "query",
        "query with brackets",
        "nested URL",
        "JSON in a query",
        "password in a nested URL",
        "Authorization",
        "cookie",
        "second cookie",
        "Proxy-Authorization",
        "X-Api-Key",
        "X-Session-Token",
        "X-User-Email",
        "X-Client-Cert",
        "Sec-WebSocket-Protocol",
        "X-Original-URI",
        "Referer",
        "body",
        "nested in a body",
        "name and value in a body",
        "environment variable",
        "URL in an environment variable",
        "copied environment",
        "repr",
        "db_pass",
        "secretkey",
        "dataclass",
        "named tuple",
        "text of a repr",
        "pair",
        "one pair",
        "bytes",
        "JSON in JSON",
        "argument",
        "option",
        "partial",
        "PEM",
        "XML",
        "multipart",
        "nested below a secret",
        "log message",
        "log extra",
        "URL in a cause",
        "message",
        "argument of a task",
    )
}


def secret(name: str) -> str:
    """Returns a secret."""
    return SECRETS[name]


ADDRESSES = ["203.0.113.77", "198.51.100.9"]
PIN = 73_918_264
PATH = f"/reset/{secret('path')};jsessionid={secret('matrix parameter')}"
QUERY = "&".join([
    f"token={secret('query')}",
    f"user[password]={secret('query with brackets')}",
    f"next={quote('https://shop.example/?access_token=' + secret('nested URL'), safe='')}",
    f"data={quote(json.dumps({'password': secret('JSON in a query')}))}",
    f"callback=https://bob:{secret('password in a nested URL')}@shop.example/",
    "page=2",
])  # fmt: skip
HEADERS = {
    "Authorization": f"Bearer {secret('Authorization')}",
    "Cookie": f"sessionid={secret('cookie')}; theme={secret('second cookie')}",
    "Proxy-Authorization": f"Basic {secret('Proxy-Authorization')}",
    "X-Api-Key": secret("X-Api-Key"),
    "X-Session-Token": secret("X-Session-Token"),
    "X-Forwarded-For": f"{ADDRESSES[0]}, 10.0.0.1",
    "X-Real-IP": ADDRESSES[1],
    "X-User-Email": f"{secret('X-User-Email')}@shop.example",
    "X-Client-Cert": secret("X-Client-Cert"),
    "Sec-WebSocket-Protocol": secret("Sec-WebSocket-Protocol"),
    "X-Original-URI": f"/a?token={secret('X-Original-URI')}",
    "Referer": f"https://shop.example/?sid={secret('Referer')}",
    "X-Request-ID": "request-1",
}
BODY = {
    "card_number": secret("body"),
    "credentials": {"login": secret("nested in a body")},
    "pin": PIN,
    "fields": [{"name": "password", "value": secret("name and value in a body")}],
}
ENVIRONMENT = {
    "DB_PASSWORD": secret("environment variable"),
    "DATABASE_URL": f"postgres://bob:{secret('URL in an environment variable')}@db/shop",
    "MAIL_PASS": secret("copied environment"),
}


@dataclasses.dataclass
class Config:
    user: str
    password: str


class Login(NamedTuple):
    user: str
    passcode: str


class Gateway:
    def __init__(self) -> None:
        self._private = secret("repr")

    def __repr__(self) -> str:
        return f"Gateway({self._private})"


def charge(request: Any, headers: Mapping[str, str], body: bytes, token: str) -> None:
    """Fails with all kinds of secrets in the local variables, the exception, its cause and a log record."""
    form = json.loads(body)
    variables, value = dict(os.environ), os.environ["DB_PASSWORD"]
    database, copies = os.environ["DATABASE_URL"], [str(header) for header in dict(headers).values()]
    db_pass, secretkey = secret("db_pass"), secret("secretkey")
    config, login = Config("bob", secret("dataclass")), Login("bob", secret("named tuple"))
    text = str(Config("bob", secret("text of a repr")))
    pairs, pair = [(b"x-auth", secret("pair").encode()), (b"a", b"b")], (b"authorization", secret("one pair").encode())
    raw = json.dumps({"api_key": secret("bytes"), "nested": json.dumps({"secret": secret("JSON in JSON")})}).encode()
    arguments = ["--password", secret("argument"), f"--api-key={secret('option')}"]
    gateway, call = Gateway(), functools.partial(print, secret("partial"))
    pem = f"-----BEGIN PRIVATE KEY-----\n{secret('PEM')}\n-----END PRIVATE KEY-----"
    xml = f"<login><password>{secret('XML')}</password></login>"
    multipart = f'--b\r\nx: y; name="password"\r\n\r\n{secret("multipart")}\r\n--b--'
    apikeys = {"live": [secret("nested below a secret")]}
    logger.error("token=%s", secret("log message"), extra={"dsn": secret("log extra"), "request": request})
    try:
        raise ConnectionError(f"cannot connect to amqp://bob:{secret('URL in a cause')}@mq/ for {token}")
    except ConnectionError as cause:
        count = len(
            [form, variables, value, database, copies, db_pass, secretkey, config, login, text, pairs, pair, raw]
        )
        count += len([arguments, gateway, call, pem, xml, multipart, apikeys])
        raise ValueError(f"{count} values, password={secret('message')!r}, {secret('db_pass')}") from cause
