"""What the Python servers share: where they listen, what they are told, and what their routes answer."""

import json
import os
import socket
import sys
import threading
import time

NETWORK = "eip155:84532"
PAY_TO = os.environ.get("PAY_TO", "")
FACILITATOR_URL = os.environ.get("FACILITATOR_URL", "")

WEATHER = {"report": {"weather": "sunny", "temperature": 70}}
PRICES = {"GET /weather": "0.01", "POST /echo": "0.02", "GET /stream": "0.01"}


def events():
    """Five server-sent events over two seconds."""
    for number in range(1, 6):
        if number > 1:
            time.sleep(0.5)
        yield f"data: {json.dumps({'event': number})}\n\n"


def announce(port):
    """Tell the parent where we are, and leave when it does."""
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)

    def watch():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def run_asgi(app):
    """Serve an ASGI application on a port of the loopback: PORT, or a free one."""
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    listener.listen()
    announce(listener.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def run_wsgi(app):
    """Serve a WSGI application on a free port of the loopback."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    announce(server.server_port)
    server.serve_forever()
