"""The RFC 7662 face under h2load, beside nginx that answers the same number of bytes from its configuration. h2load sends
a single body, so all calls have the same token. The server is on one core and h2load on the other."""

import re
import subprocess
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

import bench as runner
from bench import OTHER_CORES, SERVER_CORE, Failed, Process, free_port, log

from . import per_round, ratios
from .memory import start

PATH = "/oauth2/introspect"
CONNECTIONS = 50


def run(bench, report):
    server = start(bench)
    made = runner.run([bench.server, "key", "create", "--database-url", bench.url(bench.database()), "--workspace", "bench-0000",
                       "--name", "h2load", "--scope", "read", "--output", "token"]).strip()
    body = urlencode({"token": made})
    headers = {"authorization": f"Bearer {server.token}", "content-type": "application/x-www-form-urlencoded"}
    try:
        asked = urllib.request.Request(server.http + PATH, body.encode(), headers)
        answer = urllib.request.urlopen(asked, timeout=5).read()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            report.note("http", f"POST {PATH} is not there yet: not measured")
            return
        raise Failed(f"POST {PATH}: {error.code} {error.read()[:200]}") from error
    if b'"active":true' not in answer.replace(b" ", b""):
        raise Failed(f"POST {PATH} says {answer[:200]}")
    (bench.folder / "body").write_text(body)
    nginx = nginx_with(bench, answer.decode())
    ours, static = [], []
    for number in range(bench.rounds):
        ours.append(h2load(bench, server.http + PATH, headers))
        static.append(h2load(bench, nginx + PATH, headers))
        log(f"  round {number + 1}: ours {ours[-1]['rate']:,.0f}/s, nginx {static[-1]['rate']:,.0f}/s")
    report.ratio("http", f"POST {PATH} ÷ nginx with a body of the same {len(answer)} bytes, HTTP/1.1, {CONNECTIONS} connections: rate",
                 ratios(per_round(ours, "rate"), per_round(static, "rate")))
    report.absolute("http", f"POST {PATH}: rate", per_round(ours, "rate"), "/s")
    report.absolute("http", f"POST {PATH}: mean", per_round(ours, "mean_us"), "µs")
    report.absolute("http", "nginx, the same bytes: rate", per_round(static, "rate"), "/s")
    report.absolute("http", "nginx, the same bytes: mean", per_round(static, "mean_us"), "µs")


def nginx_with(bench, answer):
    port = free_port()
    folder = bench.folder / "nginx"
    folder.mkdir()
    quoted = answer.replace("\\", "\\\\").replace("'", "\\'").replace("$", "")
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; default_type application/json;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location = {PATH} {{ return 200 '{quoted}'; }} }}
}}
""")
    bench.keep(Process(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], SERVER_CORE))
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", timeout=1)
            return f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    raise Failed("nginx does not start")


def h2load(bench, url, headers):
    command = ["taskset", "-c", ",".join(map(str, OTHER_CORES)), "h2load", "--h1", "-t", "1", "-c", str(CONNECTIONS), "-m", "1"]
    command += ["-D", str(max(1, round(bench.seconds))), "-d", str(bench.folder / "body")]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    said = runner.run([*command, url], stderr=subprocess.DEVNULL)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    times = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", said)
    if not rate or not codes or not times or any(int(codes.group(at)) for at in (2, 3, 4)):
        raise Failed(f"h2load: {said[-600:]}")
    scale = {"us": 1, "ms": 1e3, "s": 1e6}[times.group(2)]
    return {"rate": float(rate.group(1)), "mean_us": float(times.group(1)) * scale}
