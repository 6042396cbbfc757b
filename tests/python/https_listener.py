"""HTTPS server for the tests.

Prints its port, then one JSON line per POST request. Exits when its standard input is closed.
"""

import argparse
import http.server
import json
import ssl
import sys
import threading

import trustme


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            content = json.loads(body)
        except ValueError:
            content = None  # compressed
        print(json.dumps({"path": self.path, "body": content}), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def main(args):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(args.identity).configure_cert(context)
    authority.cert_pem.write_to_path(args.ca_out)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # The handshake runs in the thread of the connection, so that a client that aborts it does not stop the server.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ca-out", metavar="FILE", required=True)
    parser.add_argument("--identity", metavar="HOST", default="127.0.0.1", help="host name in the certificate")
    main(parser.parse_args())
