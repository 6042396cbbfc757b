"""A mail server for the tests.

It prints its port, then one JSON line for each message and each login it sees, and ends when its standard input
closes, so that no test leaves one behind.
"""

import argparse
import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys
import warnings

import trustme
from aiosmtpd.smtp import SMTP, AuthResult


def say(line):
    print(json.dumps(line), flush=True)


class Inbox:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "parts": [{"type": part.get_content_type(), "text": part.get_content()} for part in mail.iter_parts()],
            "defects": [repr(defect) for part in mail.walk() for defect in part.defects],
        })
        return "250 OK"


def authenticator(user, password):
    def check(server, session, envelope, mechanism, given):
        good = given.login == user.encode() and given.password == password.encode()
        say({"login": given.login.decode(), "accepted": good})
        # Not handled: the server is still to answer 535.
        return AuthResult(success=good, handled=good)

    return check


async def serve(arguments):
    # A client that breaks off a handshake is what some tests are about.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(arguments.host).configure_cert(context)
    if arguments.ca_out:
        authority.cert_pem.write_to_path(arguments.ca_out)
    options = {"hostname": "test"}
    if arguments.mode == "starttls":
        options["tls_context"] = context
    if arguments.auth:
        user, _, password = arguments.auth.partition(":")
        options["authenticator"] = authenticator(user, password)
        options["auth_required"] = True
        # In plain mode it offers what no client should accept.
        options["auth_require_tls"] = arguments.mode == "starttls"
    else:
        options["auth_exclude_mechanism"] = ["LOGIN", "PLAIN"]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Inbox(), loop=loop, **options),
        arguments.host,
        arguments.port,
        ssl=context if arguments.mode == "tls" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["plain", "starttls", "tls"], default="plain")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--auth", metavar="USER:PASSWORD")
    parser.add_argument("--ca-out", metavar="FILE")
    asyncio.run(serve(parser.parse_args()))
