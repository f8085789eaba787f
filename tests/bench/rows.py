"""One function a row of the table: measures clauded and, in the same run, the peer or limit beside it."""

import glob
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time

import peers
from world import BIN, HERE, ROOT, World, alive, cpu_ms, memory_kib, read, until

STAMP = os.path.join(BIN, "examples/bench-stamp")
PRIVATE = {"Private_Clean", "Private_Dirty"}
CGROUPS = "/sys/fs/cgroup/unified" if os.path.exists("/sys/fs/cgroup/unified/cgroup.procs") else "/sys/fs/cgroup"


def p95(values):
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def median(values):
    return statistics.median(values)


def spawned(command, runs):
    """Time from posix_spawn(3) to the end of a program, s."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)
        times.append(time.perf_counter() - begun)
    return times


def forked(file, runs):
    """Time from posix_spawn(3) to the first instruction of the stamping program, s."""
    times = []
    for _ in range(runs):
        begun = time.time_ns()
        os.waitpid(os.posix_spawn(STAMP, [STAMP, file], os.environ), 0)
        times.append((int(read(file).split()[-1]) - begun) / 1e9)
    return times


def entered(runs):
    """Time of the write to `cgroup.procs` with which a process enters a new group, s; `None` where no group can be made. The
    kernel may wait for a grace period of RCU."""
    root = own_group()
    if not root:
        return None
    times = []
    for number in range(runs):
        group = f"{root}/g{number}"
        os.mkdir(group)
        process = subprocess.Popen(["/bin/sleep", "1000"])
        begun = time.perf_counter()
        with open(f"{group}/cgroup.procs", "w") as procs:
            procs.write(str(process.pid))
        times.append(time.perf_counter() - begun)
        process.kill()
        process.wait()
        until(lambda: not populated(group), "the group is empty", 0.0005)
        os.rmdir(group)
        # One soon after another is cheap; an idle instance comes after a pause.
        time.sleep(0.05)
    os.rmdir(root)
    return times


def flushed(file, runs):
    """Time of write and fsync(2) of 4 KiB, s: what one durable step costs at the least."""
    times = []
    with open(file, "wb") as out:
        for _ in range(runs):
            begun = time.perf_counter()
            out.write(b"x" * 4096)
            out.flush()
            os.fsync(out.fileno())
            times.append(time.perf_counter() - begun)
    return times


def dispatch(runs):
    """From the POST, and from the start of `claudectl task add`, to the first instruction of the agent."""
    file = os.path.join("/tmp", f"clauded-bench-stamp-{os.getpid()}")
    try:
        with World({"stamp": [STAMP, file]}, {"idle": "stamp"}) as world:
            world.start()
            api = world.api()
            posted, answered, called = [], [], []

            def idle(count):
                until(lambda: read(file).count("\n") == count, "the agent starts", 0.0005)
                until(lambda: not api.call("GET", "/api/v1/tasks?limit=1")[0]["state"] in ("pending", "assigned", "running"), "the task ends", 0.002)

            for number in range(runs):
                begun = time.time_ns()
                world.add(api, "idle")
                answered.append((time.time_ns() - begun) / 1e9)
                idle(number + 1)
                posted.append((int(read(file).split()[-1]) - begun) / 1e9)
            environment = {**os.environ, "CLAUDED_SOCKET": world.at("run/api.sock")}
            for number in range(runs // 3):
                begun = time.time_ns()
                subprocess.run([f"{BIN}/claudectl", "task", "add", "--instance", "idle", "go"], env=environment, check=True, capture_output=True)
                idle(runs + number + 1)
                called.append((int(read(file).split()[-1]) - begun) / 1e9)
            spare = world.at("spare")
            return {"posted": posted, "answered": answered, "called": called, "forked": forked(file, runs), "fsync": flushed(spare, 100), "entered": entered(50)}
    finally:
        if os.path.exists(file):
            os.unlink(file)


def many(count, idle):
    """What many idle instances cost: a scrape, the daemon, a runner; then restarts of the daemon under them."""
    names = {f"i{number}": "rest" for number in range(count)}
    result = {}
    with World({"rest": ["/bin/sleep", "1000"]}, names) as world:
        result["first_start_s"] = world.start()[1]
        time.sleep(1)
        pid, begun = world.daemon.pid, time.monotonic()
        cpu = cpu_ms(pid)
        time.sleep(idle)
        result["cpu_percent"] = (cpu_ms(pid) - cpu) / (time.monotonic() - begun) / 10
        result["rss_mib"] = memory_kib(pid, {"Rss"}) / 1024
        runners = world.runners()
        result["runner_private_kib"] = [memory_kib(pid, PRIVATE) for pid, _ in runners.values()]
        api, text = world.api(), ""
        for _ in range(20):
            text = api.call("GET", "/metrics")
        cpu = cpu_ms(pid)
        for _ in range(200):
            api.call("GET", "/metrics")
        result["scrape_ms"] = (cpu_ms(pid) - cpu) / 200
        result["series"] = sum(1 for line in text.splitlines() if not line.startswith("#"))
        result["process_exporter"] = peers.process_exporter(20, ["clauded-runner"])
        tasks = [world.add(api, name) for name in list(names)[:10]]
        until(lambda: all(world.state(api, task) == "running" for task in tasks), "ten tasks run", 0.01)
        result["restarts"] = {}
        for what, how, pause in (("kill -9", signal.SIGKILL, 0), ("systemctl restart", signal.SIGTERM, 0), ("down for 5 s", signal.SIGTERM, 5)):
            times = []
            for _ in range(1 if pause else 3):
                world.end(how)
                time.sleep(pause)
                times.append(world.start())
            result["restarts"][what] = {"ready_s": median([ready for ready, _ in times]), "adopted_s": median([all_of for _, all_of in times])}
        api = world.api()
        result["disturbed"] = sum(world.runners().get(name) != runner for name, runner in runners.items())
        result["disturbed"] += sum(world.state(api, task) != "running" for task in tasks)
        for task in tasks:
            api.call("POST", f"/api/v1/tasks/{task}/cancel")
        environment = {**os.environ, "CLAUDED_SOCKET": world.at("run/api.sock")}
        times = []
        for _ in range(100):
            begun = time.perf_counter()
            subprocess.run([f"{BIN}/claudectl", "version"], env=environment, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begun)
        result["version_s"] = times
        times = []
        for _ in range(100):
            begun = time.perf_counter()
            subprocess.run(["/bin/true"], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begun)
        result["true_s"] = times
    return result


def few(idle):
    """The daemon idle with four instances."""
    with World({"rest": ["/bin/sleep", "1000"]}, {f"i{number}": "rest" for number in range(4)}) as world:
        world.start()
        time.sleep(1)
        begun, cpu = time.monotonic(), cpu_ms(world.daemon.pid)
        time.sleep(idle)
        share = (cpu_ms(world.daemon.pid) - cpu) / (time.monotonic() - begun) / 10
        return {"rss_mib": memory_kib(world.daemon.pid, {"Rss"}) / 1024, "cpu_percent": share}


def own_group():
    """A new cgroup below this process's own, or None where none can be made."""
    line = next(line for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::"))
    path = f"{CGROUPS}{line[3:].rstrip('/')}/clauded-bench-{os.getpid()}-{random.randrange(10**6)}"
    try:
        os.mkdir(path)
        return path
    except OSError:
        return None


def queue():
    """The queue by itself: what a claim costs among many waiting tasks, and what the disk allows."""
    program = os.path.join(BIN, "examples/bench-queue")
    return json.loads(subprocess.run([program], check=True, capture_output=True, cwd=ROOT).stdout)


def scrape():
    """The scrape beside the bare loop, on plain files of every controller and on this kernel's own groups."""
    program = os.path.join(BIN, "examples/bench-scrape")
    result = {"files": json.loads(subprocess.run([program], check=True, capture_output=True).stdout), "groups": None}
    root = own_group()
    if root:
        groups = [f"{root}/g{number}" for number in range(200)]
        try:
            for group in groups:
                os.mkdir(group)
            result["groups"] = json.loads(subprocess.run([program, root], check=True, capture_output=True).stdout)
        finally:
            for group in [*groups, root]:
                if os.path.isdir(group):
                    os.rmdir(group)
    return result


def locks():
    """Locks as they are decided, and on disk."""
    return json.loads(subprocess.run([os.path.join(BIN, "examples/bench-locks")], check=True, capture_output=True, cwd=ROOT).stdout)


def hook(held):
    """The hook programs as Claude Code runs them, without its shell, while others hold so many locks in the same tree."""
    with World({"rest": ["/bin/sleep", "1000"]}, {"a": "rest"}) as world:
        tree = world.at("tree")
        os.makedirs(f"{tree}/.git")
        subprocess.run([os.path.join(BIN, "examples/bench-locks"), world.at("state/clauded.db"), tree, str(held)], check=True)
        world.start()
        there = world.api().call("GET", "/api/v1/locks")["locks"]
        if len(there) != held:
            raise RuntimeError(f"{len(there)} locks are held, not {held}")
        environment = {**os.environ, "CLAUDED_SOCKET": world.at("run/api.sock"), "CLAUDED_STATE": world.at("state")}

        def run(name, file):
            words = {"session_id": "s", "cwd": tree, "tool_name": "Write", "tool_input": {"file_path": f"{tree}/{file}", "content": "x" * 4000}}
            begun = time.perf_counter()
            subprocess.run([f"{BIN}/claudectl", "hook", name], input=json.dumps(words), text=True, env=environment, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - begun

        with open(f"{tree}/again", "w") as file:
            file.write("x" * 4000)
        result = {"again_s": [run("pre-tool-use", "again") for _ in range(101)][1:], "new_s": [run("pre-tool-use", f"new-{n}") for n in range(100)]}
        result["after_s"] = [run("post-tool-use", "again") for _ in range(100)]
        result["true_s"] = []
        for _ in range(100):
            begun = time.perf_counter()
            subprocess.run(["/bin/true"], check=True, stdout=subprocess.DEVNULL, input="", text=True)
            result["true_s"].append(time.perf_counter() - begun)
        return result


def machine():
    """What needs the kernel's memory controller and real systemd: measured in the virtual machine, with the built package."""
    if os.geteuid() or not glob.glob(f"{ROOT}/dist/clauded_*.deb"):
        print("the virtual machine needs root, and the package: make deb", file=sys.stderr)
        return None
    subprocess.run([f"{ROOT}/tests/vm/run.py", "--directory", f"{HERE}/vm", "--jobs", "1"], check=True, stdout=sys.stderr)
    found = {}
    for path in glob.glob(f"{HERE}/vm/*.sh"):
        found.update(json.loads(read(f"{ROOT}/tests/vm/out/{os.path.basename(path)[:-3]}-bookworm-vm/figures.json")))
    return found


def populated(group):
    """Of a group that is gone: nothing."""
    return "populated 1" in read(f"{group}/cgroup.events")


def trees(runs):
    """Ends 60 processes: through the cancellation of their task, and by a bare write to cgroup.kill."""
    result = {"cancelled": [], "bare": [], "left": 0, "cgroup": False}
    names = {"tree": "tree"}
    file = os.path.join("/tmp", f"clauded-bench-tree-{os.getpid()}")
    tree = [sys.executable, os.path.join(HERE, "tree.py"), file]

    def grown():
        until(lambda: os.path.exists(file), "the tree grows", 0.002)
        pids = [int(line) for line in read(file).split()]
        os.unlink(file)
        return pids

    with World({"tree": tree}, names) as world:
        world.start()
        api = world.api()
        for _ in range(runs):
            task = world.add(api, "tree")
            pids = grown()
            own = next(line for line in read(f"/proc/{pids[0]}/cgroup").splitlines() if line.startswith("0::"))[3:]
            group = CGROUPS + own
            result["cgroup"] = own.endswith(f"task-{task}")
            begun = time.perf_counter()
            api.call("POST", f"/api/v1/tasks/{task}/cancel")
            if result["cgroup"]:
                until(lambda: not populated(group), "the tree ends", 0.0005)
            else:
                until(lambda: not any(alive(pid) for pid in pids), "the tree ends", 0.0005)
            result["cancelled"].append(time.perf_counter() - begun)
            until(lambda: world.state(api, task) == "cancelled", "the task ends", 0.002)
            result["left"] += sum(alive(pid) for pid in pids)
    group = own_group()
    if group:
        for _ in range(runs):
            process = subprocess.Popen(tree, preexec_fn=lambda: open(f"{group}/cgroup.procs", "w").write("0"), start_new_session=True)
            grown()
            begun = time.perf_counter()
            with open(f"{group}/cgroup.kill", "w") as kill:
                kill.write("1")
            until(lambda: not populated(group), "the tree ends", 0.0005)
            result["bare"].append(time.perf_counter() - begun)
            process.wait()
        os.rmdir(group)
    return result


def flood(count):
    """Many short tasks on four instances: what stays in the daemon's memory, and how many there are a second."""
    with World({"true": ["/bin/true"]}, {f"i{number}": "true" for number in range(4)}) as world:
        world.start()
        api = world.api()
        for _ in range(200):
            world.add(api, None)
        ended = lambda want: until(lambda: world.metric('clauded_tasks{state="succeeded"}') == want, f"{want} tasks succeed", 0.1, 280)
        ended(200)
        before = memory_kib(world.daemon.pid, {"Rss"}) / 1024

        def post(share):
            own = world.api()
            for _ in range(share):
                world.add(own, None)

        begun, threads = time.monotonic(), [threading.Thread(target=post, args=(count // 8,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        added = time.monotonic() - begun
        most = memory_kib(world.daemon.pid, {"Rss"}) / 1024
        ended(200 + count)
        whole = time.monotonic() - begun
        time.sleep(2)
        after = memory_kib(world.daemon.pid, {"Rss"}) / 1024
        return {"count": count, "before_mib": before, "queued_mib": most, "after_mib": after, "added_per_s": count / added, "per_s": count / whole}
