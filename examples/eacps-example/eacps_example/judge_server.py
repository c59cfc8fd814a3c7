"""A judge to try the verifier with: an edit is right the more of it is red."""

import base64
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


class Judge(BaseHTTPRequestHandler):
    """Answers every POST."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        edited = Image.open(io.BytesIO(base64.b64decode(asked["edited"]))).convert("RGB")
        red, green, blue = edited.resize((1, 1)).getpixel((0, 0))
        share = red / max(1, red + green + blue)
        said = {"satisfied": share, "preserved": 1.0, "why": f"{share:.0%} of it is red."}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8001), Judge).serve_forever()
