"""SMTP server for the tests.

Prints its port, then one JSON line per message and per login. Exits when its standard input is closed, so that it does
not outlive the test.
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


def print_json(event):
    print(json.dumps(event), flush=True)


class Inbox:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print_json({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "parts": [{"type": part.get_content_type(), "text": part.get_content()} for part in mail.iter_parts()],
            "defects": [repr(defect) for part in mail.walk() for defect in part.defects],
        })
        return "250 OK"


def authenticator(user, password):
    def check(server, session, envelope, mechanism, credentials):
        is_valid = credentials.login == user.encode() and credentials.password == password.encode()
        print_json({"login": credentials.login.decode(), "accepted": is_valid})
        # A failed login is not handled here, so that the server responds with 535.
        return AuthResult(success=is_valid, handled=is_valid)

    return check


async def serve(args):
    # Some tests abort the TLS handshake, which aiosmtpd would log.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(args.host).configure_cert(context)
    if args.ca_out:
        authority.cert_pem.write_to_path(args.ca_out)
    options = {"hostname": "test"}
    if args.mode == "starttls":
        options["tls_context"] = context
    if args.auth:
        user, _, password = args.auth.partition(":")
        options["authenticator"] = authenticator(user, password)
        options["auth_required"] = True
        # In plain mode, the server offers authentication without TLS, which clients must refuse.
        options["auth_require_tls"] = args.mode == "starttls"
    else:
        options["auth_exclude_mechanism"] = ["LOGIN", "PLAIN"]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Inbox(), loop=loop, **options),
        args.host,
        args.port,
        ssl=context if args.mode == "tls" else None,
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
