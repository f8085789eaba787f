#!/usr/bin/env python3
"""`make bench`: the table of figures, each with its goal and with the peer or limit that was measured in the same run.
Called by run.sh, which builds. Writes the same as JSON. A goal that is missed is shown as missed and is no error."""

import datetime
import json
import os
import platform
import subprocess
import sys
import time

import peers
import rows
from rows import median, p95
from world import ROOT

IDLE = 10
MACHINE = "virtual machine, one processor, software emulation"
MOST_HELD = 100_000
TASKS = int(os.environ.get("BENCH_TASKS", "10000"))


def measured(what, work):
    """Runs one measurement; one that fails is a line of the report and not the end of it."""
    begun = time.monotonic()
    try:
        return work()
    except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    finally:
        print(f"  {what}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


class Table:
    """Rows as they are printed and stored."""

    def __init__(self):
        self.rows = []

    def add(self, what, unit, value, goal=None, beside=(), note=""):
        """`beside`: pairs of a name and a value in the same unit; one that is None could not be had."""
        met = None if goal is None or value is None else value <= goal
        others = [{"name": name, "value": other, "ratio": value / other if value is not None and other else None} for name, other in beside]
        self.rows.append({"what": what, "unit": unit, "value": value, "goal": goal, "met": met, "beside": others, "note": note})

    def markdown(self):
        lines = ["| what | measured | goal | | beside it, in the same run |", "|---|---|---|---|---|"]
        for row in self.rows:
            value = "not measured here" if row["value"] is None else shown(row["value"], row["unit"])
            goal = "" if row["goal"] is None else f"≤ {shown(row['goal'], row['unit'])}"
            verdict = {True: "met", False: "**missed**", None: ""}[row["met"]]
            beside = []
            for other in row["beside"]:
                if other["value"] is None:
                    beside.append(f"{other['name']}: not to be had here")
                else:
                    ratio = f" (×{other['ratio']:.2g})" if other["ratio"] else ""
                    beside.append(f"{other['name']} {shown(other['value'], row['unit'])}{ratio}")
            lines.append(f"| {row['what']} | {value} | {goal} | {verdict} | {'; '.join([*beside, *([row['note']] if row['note'] else [])])} |")
        return "\n".join(lines)


def shown(value, unit):
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f} {unit}"


def ms(times):
    return [time * 1000 for time in times]


def fill(table, found):
    """From measurements to rows. What could not be measured is missing in `found`."""
    if one := found["dispatch"]:
        posted, bare, other = ms(one["posted"]), ms(one["forked"]), found["pueue"] and ms(found["pueue"]["starts"])
        flush = median(ms(one["fsync"]))
        enters = one["entered"] and ms(one["entered"])
        table.add("task queued → agent process started, p95", "ms", p95(posted), 10, [("posix_spawn of the same program, p95", p95(bare)), ("entering a new cgroup by `cgroup.procs`, p95", enters and p95(enters))])
        table.add("the same, median", "ms", median(posted), None, [("posix_spawn", median(bare)), ("entering a cgroup", enters and median(enters)), ("one fsync of 4 KiB on this disk", flush)], f"answered to the caller after {median(ms(one['answered'])):.2f} ms")
        called = ms(one["called"])
        table.add("`claudectl task add` → agent process started, median", "ms", median(called), None, [("`pueue add`, median", other and median(other)), ("`pueue add`, p95", other and p95(other))])
    if files := found["scrape"]:
        at = {row["instances"]: row for row in files["files"]}
        table.add("one scrape of 100 instances, in the process, plain files: CPU", "ms", at[100]["scrape_ms"], 5, [("pread of the same open files", at[100]["bare_ms"]), ("open, read, close of them", at[100]["open_ms"])])
        growth = at[200]["scrape_ms"] / at[50]["scrape_ms"]
        table.add("200 instances cost so much more than 50", "times", growth, 4.4, [], "linear is 4")
        if files["groups"]:
            at = {row["instances"]: row for row in files["groups"]}
            table.add(f"the same on real groups ({at[100]['files'] // 100} files each in this kernel): CPU", "ms", at[100]["scrape_ms"], 5, [("pread of the same open files", at[100]["bare_ms"]), ("open, read, close of them", at[100]["open_ms"])])
    if queue := found["queue"]:
        at = {row["pending"]: row for row in queue["claims"]}
        table.add("a claim with 10 000 pending tasks in 100 classes: CPU, median", "µs", at[10_000]["claim_us"], None, [("with 100", at[100]["claim_us"]), ("with 100 000", at[100_000]["claim_us"])], f"p99 {at[10_000]['p99_us']:.0f} µs, with 100 000 {at[100_000]['p99_us']:.0f} µs")
        table.add("a claim with 100 000 pending tasks costs so much more than with 100", "times", at[100_000]["claim_us"] / at[100]["claim_us"], 10, [], "a flat one is 1")
        at = {row["tasks"]: row for row in queue["disk"]}
        for size, row in at.items():
            table.add(f"queue transitions durable on disk, one a commit, {size} tasks stored", "a second", row["durable_per_s"], None, [("fsync of 4 KiB", row["fsync_per_s"]), ("without its row in the audit", row["without_audit_per_s"])], f"{row['shared_per_s']:.0f} a second when 64 share a commit")
        table.add("a commit takes so much longer for its row in the audit, 10 000 tasks stored", "%", (at[10_000]["without_audit_per_s"] / at[10_000]["durable_per_s"] - 1) * 100, 10)
    if many := found["many"]:
        exporter = found["node_exporter"]
        others = {"node_exporter": exporter, "process_exporter": many["process_exporter"]}
        note = "series: " + ", ".join(f"{name} {count}" for name, count in [("clauded", many["series"]), *((name, of["series"]) for name, of in others.items() if of)])
        table.add("`/metrics` of clauded with 100 running instances: CPU per scrape", "ms", many["scrape_ms"], 5, [(name, of and of["ms"]) for name, of in others.items()], note)
    other = found["pueue"]
    if few := found["few"]:
        table.add("daemon idle, 4 instances: RSS", "MiB", few["rss_mib"], 20, [("pueued", other and other["rss_mib"])])
        table.add("daemon idle, 4 instances: CPU", "% of a core", few["cpu_percent"], 0.1, [("pueued", other and other["cpu_percent"])])
    if many:
        table.add("daemon idle, 100 instances: RSS", "MiB", many["rss_mib"], 20)
        table.add("daemon idle, 100 instances: CPU", "% of a core", many["cpu_percent"], 0.1)
        table.add("runner idle: unshared memory, median of 100", "MiB", median(many["runner_private_kib"]) / 1024, 3, [("conmon", found["conmon"] and found["conmon"] / 1024)])
        table.add("`claudectl version` round trip, p50", "ms", median(ms(many["version_s"])), 5, [("/bin/true", median(ms(many["true_s"])))])
    if hooks := found["hook"]:
        hook, most, count = hooks[0], hooks[-1], MOST_HELD
        bare = ("/bin/true", median(ms(hook["true_s"])))
        table.add("`claudectl hook pre-tool-use`, a file that is locked already, p50", "ms", median(ms(hook["again_s"])), 5, [bare, (f"with {count} locks held by others", median(ms(most["again_s"])))])
        table.add("the same, a new lock on disk each time, p50", "ms", median(ms(hook["new_s"])), 5, [bare, (f"with {count} locks held by others", median(ms(most["new_s"])))])
        table.add("`claudectl hook post-tool-use`, p50", "ms", median(ms(hook["after_s"])), 5, [bare, (f"with {count} locks held by others", median(ms(most["after_s"])))])
    if locks := found["locks"]:
        most, none = locks[-1], locks[0]
        for what, key in [("a file", "file_s"), ("a glob", "glob_s")]:
            table.add(f"lock on {what} taken and given back, {most['held']} held, decided", "µs", most[key] * 1e6, None, [("with none held", none[key] * 1e6)])
        table.add("lock handed on in a line of 100, decided", "µs", most["waiting_s"] * 1e6, None, [("with none held beside", none["waiting_s"] * 1e6)])
        table.add("lock on everything refused", "ms", most["everything_s"] * 1000, None, [("with none held", none["everything_s"] * 1000)])
        table.add(f"locks taken and given back, each step on disk, {most['held']} held", "a second", 1 / most["durable_s"], None, [("with none held", 1 / none["durable_s"])])
        table.add(f"lock handed on in a line of 100, each step on disk, {most['held']} held", "a second", 1 / most["handed_s"], None, [("with none held", 1 / none["handed_s"])])
    emulated = found["machine"]
    verdicts = emulated and emulated["oom_verdict_ms"]
    table.add("out-of-memory kill → verdict on the task, median", "ms", verdicts and median(verdicts), 250, [("the longest of seven", verdicts and max(verdicts))], MACHINE)
    if trees := found["trees"]:
        beside = [("cgroup.kill of the same tree", median(ms(trees["bare"])) if trees["bare"] else None)]
        table.add("end a tree of 60 processes by cancelling its task, median", "ms", median(ms(trees["cancelled"])), 50, beside)
        table.add("processes of it that were left", "of 600", trees["left"], 0)
    if many:
        restart = many["restarts"]
        table.add("daemon killed and started with 100 instances: all adopted", "s", restart["kill -9"]["adopted_s"], 1, [("until READY", restart["kill -9"]["ready_s"])])
        table.add("the same after an orderly stop", "s", restart["systemctl restart"]["adopted_s"], 1, [("until READY", restart["systemctl restart"]["ready_s"])])
        table.add("the same after 5 s without a daemon", "s", restart["down for 5 s"]["adopted_s"], 1, [("until READY", restart["down for 5 s"]["ready_s"])])
        table.add("runners and tasks disturbed by the seven restarts", "of 110", many["disturbed"], 0)
        table.add("100 instances started and linked, from nothing", "s", many["first_start_s"])
    neighbour = emulated and emulated["neighbour"]
    growth = neighbour and (neighbour["runaway"]["p99"] / neighbour["constant"]["p99"] - 1) * 100
    note = f"p99 of a step {neighbour['runaway']['p99']:.1f} ms beside the runaway, {neighbour['constant']['p99']:.1f} ms beside the same work in constant memory, {neighbour['alone']['p99']:.1f} ms alone; in all it stood still for want of memory {neighbour['runaway']['memory_stall']:.0f} ms, of the processor {neighbour['runaway']['cpu_stall']:.0f} ms ({neighbour['constant']['cpu_stall']:.0f} ms beside the constant one); " if neighbour else ""
    table.add("one instance runs away: its neighbour's p99 grows by", "%", growth, 10, [], note + MACHINE)
    if flood := found["flood"]:
        note = f"{flood['before_mib']:.1f} MiB before, {flood['queued_mib']:.1f} MiB with the queue at its longest"
        table.add(f"daemon after {flood['count']} tasks: RSS", "MiB", flood["after_mib"], None, [("before them", flood["before_mib"])], note)
        table.add("tasks through 4 instances, from adding to succeeded", "tasks/s", flood["per_s"], None, [], f"added at {flood['added_per_s']:.0f} a second by 8 clients")


def main():
    found = {
        "dispatch": measured("dispatch", lambda: rows.dispatch(100)),
        "scrape": measured("scrape", rows.scrape),
        "queue": measured("queue", rows.queue),
        "locks": measured("locks", rows.locks),
        "hook": measured("hook", lambda: [rows.hook(held) for held in (0, MOST_HELD)]),
        "few": measured("idle daemon", lambda: rows.few(IDLE)),
        "many": measured("100 instances", lambda: rows.many(100, IDLE)),
        "trees": measured("trees", lambda: rows.trees(10)),
        "pueue": measured("pueue", lambda: peers.pueue(rows.STAMP, 20, IDLE)),
        "node_exporter": measured("node_exporter", lambda: peers.node_exporter(30)),
        "conmon": measured("conmon", peers.conmon),
        "machine": measured("the virtual machine", rows.machine),
        "flood": measured(f"{TASKS} tasks", lambda: rows.flood(TASKS)),
    }
    table = Table()
    fill(table, found)
    print(f"{datetime.date.today()}, Linux {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table.markdown())
    out = os.environ.get("BENCH_JSON", os.path.join(ROOT, "target/bench.json"))
    with open(out, "w") as file:
        json.dump({"date": str(datetime.date.today()), "kernel": platform.release(), "cores": os.cpu_count(), "rows": table.rows, "raw": found}, file, indent=1)
    missed = [row["what"] for row in table.rows if row["met"] is False]
    print(f"\n{sum(row['met'] is True for row in table.rows)} goals met, {len(missed)} missed; as JSON: {os.path.relpath(out)}")
    # A measurement that broke is an error; a missed goal is a figure.
    sys.exit(any(found[name] is None for name in ("dispatch", "queue", "locks", "hook", "scrape", "few", "many", "trees", "flood")))


main()
