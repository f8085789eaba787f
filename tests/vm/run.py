#!/usr/bin/env python3
"""Runs tests/vm/cases/*.sh under real systemd with the built package installed; `ok` or `not ok` for each, and a summary.

  run.py [--release NAME]... [--lane vm|container|warp] [--jobs N] [--deb FILE] [--directory DIRECTORY] [--list] [CASE]...

A case is a bash script, run as root in the machine after lib.sh was read. Its head says, in comments:
  # lanes: vm container            which of tbvm.py's lanes it runs in
  # releases: bookworm trixie      where not on all of them
  # vm-releases: bookworm trixie   the same for the lanes vm and warp alone, where it is not on the two that bracket the target
  # timeout: 300                   seconds, on the machine's own clock under warp
  # again: reboot | reset          run a second time after an orderly reboot or a power cut, with AGAIN=1
  # files: deb next prometheus contract   what it wants in its working directory beside lib.sh
  # fresh: yes                     starts on a machine without the package
What a case leaves in $TB_OUT, its output, and the journal when it fails, are in tests/vm/out/CASE-RELEASE-LANE/.
Exit status: 0 all passed, 1 some did not, 2 the machines cannot be had. A release whose machine cannot be built is
skipped if it is optional (Debian 11 may leave the mirror any day) and fails otherwise.
"""
import argparse, concurrent.futures, glob, hashlib, os, re, shutil, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OUT = f'{HERE}/out'
TBVM = [sys.executable, f'{HERE}/tbvm.py']
RELEASES = ['bookworm', 'trixie', 'bullseye']
OPTIONAL = {'bullseye'}
# Ubuntu 22.04 lies between these two. Emulation is what takes the time: the newest has it for what its kernel and systemd do anew.
BRACKET = 'bookworm bullseye'
LANES = ['vm', 'container', 'warp']
STATES_KEPT = 24 * 3600                                # seconds; older saved installations go


class Case:
    def __init__(self, path):
        self.name, self.path = os.path.basename(path)[:-3], path
        text = open(path).read()
        head = dict(re.findall(r'^# ([a-z-]+): *(.+?) *$', text.split('\n\n')[0], re.M))
        unknown = set(head) - {'lanes', 'releases', 'vm-releases', 'timeout', 'again', 'files', 'fresh'}
        if unknown or 'lanes' not in head: sys.exit(f'{path}: {"unknown " + ", ".join(unknown) if unknown else "no lanes:"} in its head')
        self.lanes = head['lanes'].split()
        self.releases = head.get('releases', ' '.join(RELEASES)).split()
        self.vm_releases = head.get('vm-releases', BRACKET).split()
        self.timeout = int(head.get('timeout', 300))
        self.again = head.get('again')
        self.files = head.get('files', '').split()
        self.fresh = head.get('fresh') == 'yes'

    def runs_on(self, release, lane):
        return release in self.releases and lane in self.lanes and (lane == 'container' or release in self.vm_releases)


def output(case, release, lane): return f'{OUT}/{case.name}-{release}-{lane}'


def took(job):
    """how long it took the last time; who has never run may take as long as it is allowed"""
    try: return float(open(f'{output(*job)}/seconds').read())
    except (OSError, ValueError): return float(job[0].timeout)


def digest(paths):
    h = hashlib.sha256()
    for p in paths: h.update(open(p, 'rb').read())
    return h.hexdigest()[:16]


def next_version(deb, to):
    """the same package with a higher version, to upgrade to"""
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(['dpkg-deb', '-R', deb, f'{d}/p'], check=True)
        control = open(f'{d}/p/DEBIAN/control').read()
        open(f'{d}/p/DEBIAN/control', 'w').write(re.sub(r'^(Version: .*)$', r'\1+next', control, flags=re.M))
        subprocess.run(['dpkg-deb', '--root-owner-group', '-b', f'{d}/p', to], check=True, stdout=subprocess.DEVNULL)


def prometheus(to):
    """Debian's prometheus and promtool, which prerequisites.sh has unpacked"""
    os.makedirs(to)
    for p in ('prometheus', 'promtool'): shutil.copy(f'{TOP}/target/tools/prometheus/usr/bin/{p}', to)


def contract(to):
    """the contract suite of the supervisors, built for the oldest release beside the package"""
    built = [p for p in glob.glob(f'{TOP}/target/x86_64-unknown-linux-gnu/release/deps/contract-*') if '.' not in os.path.basename(p)]
    if not built: sys.exit("vm: the contract suite is not built: EXTRA='--test contract' packaging/deb.sh")
    os.makedirs(to)
    shutil.copy(max(built, key=os.path.getmtime), f'{to}/contract')


class Run:
    def __init__(self, a, stage):
        self.a, self.stage = a, stage
        self.inputs = [a.deb, f'{HERE}/install.sh', *sorted(glob.glob(f'{HERE}/agent/*'))] + ([a.agent] if a.agent else [])
        self.state = 'inst-' + digest(self.inputs)

    def share(self, files):
        """a folder with lib.sh, the cases and the files asked for; hard links, so it costs nothing"""
        d = tempfile.mkdtemp(dir=self.stage)
        for f in glob.glob(f'{self.a.directory}/*.sh') + [f'{HERE}/lib.sh', f'{HERE}/install.sh']: shutil.copy(f, d)
        for f in files:
            source = f'{self.stage}/{f}'
            if os.path.isdir(source): shutil.copytree(source, f'{d}/{f}', copy_function=os.link)
            else: os.link(source, f'{d}/{f}')
        return d

    def tbvm(self, release, *arguments, command, output):
        with open(output, 'ab') as f:
            return subprocess.run([*TBVM, 'run', release, *arguments, '--', command], stdin=subprocess.DEVNULL, stdout=f, stderr=f).returncode

    def installed(self, release, warp):
        """makes sure that the state with the package installed is there; None, or why not"""
        w = ['--warp'] if warp else []
        base = subprocess.run([*TBVM, 'base', release, *w], capture_output=True, text=True)
        if base.returncode: return 'base: ' + base.stderr.strip()[-300:]
        root = base.stdout.strip().splitlines()[-1]
        now = time.time()
        for s in glob.glob(f'{root}/state-*/saved-inst-*'):
            if not s.endswith(self.state) and now - os.path.getmtime(s) > STATES_KEPT: shutil.rmtree(s, ignore_errors=True)
        log = f'{OUT}/install-{release}{"-warp" if warp else ""}.txt'
        if any(os.path.exists(f'{s}/boot.qcow2') for s in glob.glob(f'{root}/state-*/saved-{self.state}') if ('w-' in s.split('state-')[1]) == warp): return None
        rc = self.tbvm(release, *w, '--share', self.share(self.base_files()), '--save', self.state, '--timeout', '300', command='bash install.sh', output=log)
        return None if rc == 0 else f'install: exit {rc}, see {os.path.relpath(log, TOP)}'

    def base_files(self):
        return ['deb'] + (['scripted-agent'] if self.a.agent else [])

    def one(self, case, release, lane):
        t0 = time.time()
        d = output(case, release, lane)
        shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
        script = f'set -Eeuo pipefail; . ./lib.sh; . ./{case.name}.sh'
        extra = {'vm': [], 'container': ['--container'], 'warp': ['--warp']}[lane]
        files = set(case.files)
        if lane == 'container' or case.fresh: files |= set(self.base_files())
        if lane != 'container' and not case.fresh: extra += ['--from', self.state]
        if lane == 'container' and not case.fresh: script = 'bash install.sh >/tb/out/install.txt 2>&1 || { cat /tb/out/install.txt; exit 1; }; ' + script
        if case.again: extra += ['--' + case.again, 'AGAIN=1; ' + script]
        share = self.share(sorted(files))
        rc = self.tbvm(release, *extra, '--share', share, '--out', d, '--timeout', str(case.timeout), command=script, output=f'{d}/output.txt')
        shutil.rmtree(share, ignore_errors=True)
        seconds = time.time() - t0
        with open(f'{d}/seconds', 'w') as f: f.write(f'{seconds:.1f}\n')
        return case, release, lane, rc, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('cases', nargs='*'); p.add_argument('--release', action='append', choices=RELEASES); p.add_argument('--lane', action='append', choices=LANES)
    p.add_argument('--jobs', type=int, default=3); p.add_argument('--list', action='store_true'); p.add_argument('--agent', help='the scripted agent, built for the oldest release')
    p.add_argument('--directory', default=f'{HERE}/cases', help='where the cases are')
    p.add_argument('--deb', default=(sorted(glob.glob(f'{TOP}/dist/clauded_*_amd64.deb')) or [None])[-1])
    a = p.parse_args()
    cases = [Case(f) for f in sorted(glob.glob(f'{a.directory}/*.sh'))]
    if not cases: sys.exit(f'{a.directory}: no cases')
    unknown = set(a.cases) - {c.name for c in cases}
    if unknown: sys.exit(f'no such case: {", ".join(sorted(unknown))}')
    cases = [c for c in cases if not a.cases or c.name in a.cases]
    todo = [(c, r, l) for r in (a.release or RELEASES) for c in cases for l in a.lane or LANES if c.runs_on(r, l)]
    if a.list:
        for c, r, l in todo: print(c.name, r, l)
        return 0
    if os.geteuid(): print('vm: the machines need root', file=sys.stderr); return 2
    if not a.deb: print('vm: no package: make deb', file=sys.stderr); return 2
    default = f'{TOP}/target/x86_64-unknown-linux-gnu/release/scripted-agent'
    a.agent = a.agent or (default if os.path.exists(default) else None)
    os.makedirs(OUT, exist_ok=True)
    for f in glob.glob(f'{OUT}/install-*'): os.remove(f)
    passed, failed, skipped, t0 = 0, [], [], time.time()
    with tempfile.TemporaryDirectory(dir=f'{TOP}/target') as stage:
        os.makedirs(f'{stage}/deb'); shutil.copy(a.deb, f'{stage}/deb/clauded.deb')
        if a.agent: shutil.copy(a.agent, f'{stage}/scripted-agent')
        wanted = {f for c, _, _ in todo for f in c.files}
        if 'next' in wanted: os.makedirs(f'{stage}/next'); next_version(a.deb, f'{stage}/next/clauded.deb')
        if 'prometheus' in wanted: prometheus(f'{stage}/prometheus')
        if 'contract' in wanted: contract(f'{stage}/contract')
        run = Run(a, stage)
        broken = {}
        for r in dict.fromkeys(r for _, r, _ in todo):
            for warp in sorted({l == 'warp' for c, x, l in todo if x == r and (l != 'container')} or {False}):
                why = run.installed(r, warp)
                if why and (why.startswith('base') and r in OPTIONAL): skipped.append(r); print(f'skip {r}: {why}', flush=True)
                elif why: failed.append(f'{r}{"-warp" if warp else ""}'); print(f'not ok {r}: {why}', flush=True)
                if why: broken[r, warp] = True
        # The longest first, so that at the end no processor waits for one that began last.
        todo.sort(key=took, reverse=True)
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            jobs = [pool.submit(run.one, c, r, l) for c, r, l in todo if not broken.get((r, l == 'warp'))]
            for job in concurrent.futures.as_completed(jobs):
                c, r, l, rc, seconds = job.result()
                name = f'{c.name} {r} {l}'
                if rc == 0: passed += 1; print(f'ok {name} ({seconds:.1f} s)', flush=True); continue
                failed.append(name)
                print(f'not ok {name} ({seconds:.1f} s), exit {rc}; the end of tests/vm/out/{c.name}-{r}-{l}/output.txt:', flush=True)
                print(''.join('  ' + x for x in open(f'{output(c, r, l)}/output.txt', errors='replace').readlines()[-15:]), flush=True)
    print(f'vm: {passed} passed, {len(failed)} failed, {len(skipped)} releases skipped, {time.time() - t0:.0f} s')
    return 1 if failed else 0


if __name__ == '__main__': sys.exit(main())
