"""The peers beside clauded, each in a throw-away directory. A peer that cannot be had is `None`, and its row says so."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

from world import ROOT, cpu_ms, memory_kib, read, until

TOOLS = os.path.join(ROOT, "target/tools")


def program(name):
    """The program, from where run.sh put it, or from the system."""
    for path in (f"{TOOLS}/bin/{name}", f"{TOOLS}/{name}/usr/bin/{name}"):
        if os.access(path, os.X_OK):
            return path
    return shutil.which(name)


def pueue(stamp, runs, idle):
    """Task start after `pueue add` (s), RSS (MiB) and CPU (% of a core) of an idle pueued."""
    client, daemon = program("pueue"), program("pueued")
    if not client or not daemon:
        return None
    home = tempfile.mkdtemp(prefix="clauded-bench-pueue-")
    environment = {**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home, "XDG_CONFIG_HOME": f"{home}/config", "XDG_DATA_HOME": f"{home}/data"}
    process = subprocess.Popen([daemon], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: subprocess.run([client, "status"], env=environment, capture_output=True).returncode == 0, "pueued answers", 0.1)
        begun, cpu = time.monotonic(), cpu_ms(process.pid)
        time.sleep(idle)
        share = (cpu_ms(process.pid) - cpu) / (time.monotonic() - begun) / 10
        rss = memory_kib(process.pid, {"Rss"}) / 1024
        file, starts = f"{home}/stamps", []
        for number in range(runs):
            begun = time.time_ns()
            subprocess.run([client, "add", "--", f"{stamp} {file}"], env=environment, check=True, capture_output=True)
            until(lambda: read(file).count("\n") == number + 1, "pueue starts a task")
            starts.append((int(read(file).split()[-1]) - begun) / 1e9)
            # Away from the beat of its poll.
            time.sleep(0.05 + 0.037 * (number % 7))
        return {"starts": starts, "rss_mib": rss, "cpu_percent": share}
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def node_exporter(scrapes):
    """The host's numbers: CPU per scrape (ms) and the number of series."""
    return exporter("prometheus-node-exporter", [], scrapes)


def process_exporter(scrapes, names):
    """The same of the processes of those names, each in a group of its own: the nearest to a group per instance that Debian has."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        json.dump({"process_names": [{"name": "{{.PID}}", "comm": names}]}, config)
        config.flush()
        return exporter("prometheus-process-exporter", ["--config.path", config.name], scrapes)


def exporter(name, arguments, scrapes):
    path = program(name)
    if not path:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([path, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def scrape():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                return answer.read().decode()
        except OSError:
            return ""

    try:
        text = until(scrape, f"{name} answers", 0.05)
        cpu = cpu_ms(process.pid)
        for _ in range(scrapes):
            scrape()
        return {"ms": (cpu_ms(process.pid) - cpu) / scrapes, "series": sum(1 for line in text.splitlines() if not line.startswith("#"))}
    finally:
        process.terminate()
        process.wait()


RUNTIME = """#!/bin/sh
# Stands in for an OCI runtime: starts a process and says which.
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && file=$2; shift; done
[ -n "${file:-}" ] || exit 0
sleep 1000 >/dev/null 2>&1 & echo $! > "$file"
"""


def conmon():
    """Private memory of a conmon that watches one process, KiB."""
    path = program("conmon")
    if not path:
        return None
    home = tempfile.mkdtemp(prefix="clauded-bench-conmon-")
    pids = [f"{home}/container.pid", f"{home}/conmon.pid"]
    try:
        with open(f"{home}/runtime", "w", opener=lambda p, flags: os.open(p, flags, 0o755)) as file:
            file.write(RUNTIME)
        command = [path, "--cid", "a" * 64, "--cuid", "a" * 64, "--runtime", f"{home}/runtime", "--bundle", home, "--exit-dir", home, "--socket-dir-path", home]
        command += ["--container-pidfile", pids[0], "--conmon-pidfile", pids[1], "--log-path", f"k8s-file:{home}/log"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        until(lambda: read(pids[0]).strip() and read(pids[1]).strip(), "conmon watches", 0.02, 10)
        time.sleep(0.2)
        return memory_kib(int(read(pids[1])), {"Private_Clean", "Private_Dirty"}) or None
    except (RuntimeError, subprocess.SubprocessError):
        return None
    finally:
        for file in pids:
            if read(file).strip():
                subprocess.run(["kill", "-9", read(file).strip()], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
