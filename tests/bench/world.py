"""A throw-away clauded for measurements: its directories, its daemon, its API, and what the kernel says about a process."""

import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("BIN", os.path.join(ROOT, "target/release"))
HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE = 60


def until(condition, what, pause=0.001, deadline=DEADLINE):
    """Waits for what has no event to wait for; the pause bounds the error of a measurement."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {deadline} s")
        time.sleep(pause)


def read(path):
    """A file's text, empty if there is none."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, OSError):
        return ""


def cpu_ms(pid):
    """CPU time of a process, ms, threads that have ended among them: its clock (clock_getcpuclockid(3)), which is exact."""
    return time.clock_gettime((~pid << 3) | 2) * 1000


def memory_kib(pid, keys):
    """The sum of those lines of smaps_rollup."""
    lines = (line.split() for line in read(f"/proc/{pid}/smaps_rollup").splitlines()[1:])
    return sum(int(words[1]) for words in lines if words[0].rstrip(":") in keys)


def alive(pid):
    """Whether a process exists and is no zombie."""
    stat = read(f"/proc/{pid}/stat")
    return bool(stat) and stat.rsplit(")", 1)[1].split()[0] not in "ZX"


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket, one connection kept."""

    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)

    def call(self, method, route, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, route, json.dumps(body) if body is not None else None, headers)
        answer = self.getresponse()
        text = answer.read().decode()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {route}: {answer.status} {text}")
        return json.loads(text) if answer.getheader("Content-Type", "").startswith("application/json") else text


class World:
    """One clauded with the process supervisor."""

    def __init__(self, profiles, instances):
        self.path = tempfile.mkdtemp(prefix="clauded-bench-")
        for name in ("worktrees", "state", "run", "instances"):
            os.mkdir(self.at(name))
        for name in instances:
            os.mkdir(self.at("worktrees", name))
        text = f"""
[fleet]
supervisor = "process"
worktree-root = "{self.at('worktrees')}"
[api]
listen = "off"
token-file = "{self.at('state/token')}"
[store]
path = "{self.at('state/clauded.db')}"
"""
        for name, command in profiles.items():
            text += f"[profiles.{name}]\nagent = \"command\"\ncommand = {json.dumps(command)}\nkill-grace = \"1s\"\n"
        for name, profile in instances.items():
            text += f"[instances.{name}]\nprofile = \"{profile}\"\nautostart = true\n"
        with open(self.at("clauded.toml"), "w") as file:
            file.write(text)
        self.instances = instances
        self.daemon = None

    def at(self, *names):
        return os.path.join(self.path, *names)

    def start(self):
        """Starts the daemon; answers when every instance is linked, and after how many seconds."""
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if os.path.exists(self.at("notify")):
            os.unlink(self.at("notify"))
        notify.bind(self.at("notify"))
        notify.settimeout(DEADLINE)
        flags = {"config": "clauded.toml", "state-directory": "state", "runtime-directory": "run", "instances-directory": "instances"}
        arguments = [word for flag, name in flags.items() for word in (f"--{flag}", self.at(name))]
        log = open(self.at("clauded.log"), "a")
        begun = time.monotonic()
        self.daemon = subprocess.Popen([f"{BIN}/clauded", *arguments], env={**os.environ, "NOTIFY_SOCKET": self.at("notify")}, stdout=log, stderr=log)
        while b"READY=1" not in notify.recv(4096):
            pass
        ready = time.monotonic() - begun
        until(lambda: self.metric("clauded_links") == len(self.instances), "all instances linked", 0.002)
        return ready, time.monotonic() - begun

    def end(self, how=signal.SIGTERM):
        self.daemon.send_signal(how)
        self.daemon.wait(DEADLINE)

    def api(self):
        return Unix(self.at("run/api.sock"))

    def metric(self, name):
        for line in self.api().call("GET", "/metrics").splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def add(self, api, instance, prompt=""):
        body = {"prompt": prompt or "go"}
        if instance:
            body["instance"] = instance
        return api.call("POST", "/api/v1/tasks", body)["id"]

    def state(self, api, task):
        return api.call("GET", f"/api/v1/tasks/{task}")["state"]

    def runners(self):
        """Name of every instance to its runner's process and when that began."""
        found = {}
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            words = read(path).split("\0")
            pid = path.split("/")[2]
            if words[0].endswith("clauded-runner") and self.path in read(f"/proc/{pid}/environ"):
                found[words[1]] = (int(pid), read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19])
        return found

    def close(self):
        """Ends the runners, which would outlive the daemon, then the daemon."""
        try:
            if self.daemon.poll() is None:
                api = self.api()
                for name in self.instances:
                    api.call("POST", f"/api/v1/instances/{name}/stop")
                self.end()
        finally:
            for pid, _ in self.runners().values():
                os.kill(pid, signal.SIGKILL)
            if self.daemon.poll() is None:
                self.daemon.kill()
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error:
            print(read(self.at("clauded.log"))[-3000:])
        self.close()
