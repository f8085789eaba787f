#!/usr/bin/env python3
"""tbvm: throw-away virtual machines with real systemd and cgroup v2, under software emulation.

  tbvm.py base SUITE                        build (once, cached) and boot (once, cached); print the cache folder
  tbvm.py run SUITE [options] -- COMMAND    restore the booted machine in < 1 s, run COMMAND (bash), return its exit code
     --share DIR     copied to /tb/in/share in the machine; COMMAND runs there (default: an empty folder)
     --out DIR       what COMMAND leaves in $TB_OUT comes back here (with journal.txt and units.txt when it fails)
     --timeout S     limit for COMMAND (default 120); the machine is killed 20 s after it at the latest
     --from NAME     start from a saved state instead of the booted base;  --save NAME   save the state if COMMAND returned 0
     --reboot CMD    then reboot in order, and run CMD after it;  --reset CMD   then cut the power (reset), and run CMD after it
     --forward H:G   127.0.0.1:H on the host reaches port G in the machine (after 'tb-net up' there); otherwise no network
     --warp          the guest's clock runs on instructions and jumps over idle time: an hour of 'sleep' takes 3 s; timings do not depend on the host's load (one vCPU)
     --console FILE  keep the console log
     --container     the fast lane: the same tree and the same real systemd in a container on the host's kernel (0.4 s, native
                     speed); cgroup v2 without controllers, so no memory, CPU or pids limits; no --from, --save, --reboot, --forward
  tbvm.py gc                                remove all but the newest cache folder of each suite

Exit code: COMMAND's; 124 it ran past --timeout; 125 the testbed itself failed.
Needs (Debian): qemu-system-x86 qemu-utils mmdebstrap gcc libc6-dev cpio xz-utils zstd e2fsprogs, systemd-container for --container; root.
"""
import argparse, fcntl, hashlib, json, os, re, select, shutil, signal, socket, subprocess, sys, tarfile, io, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get('TBVM_CACHE', '/var/cache/tbvm')
MIRROR = os.environ.get('TBVM_MIRROR', '')          # '' = mmdebstrap's default for the suite
DISK_MB = 1024                                      # size of the in and out disks (sparse)
FORMAT = '7'                                        # bump to rebuild every cache
PKGS = 'systemd systemd-sysv dbus libpam-systemd dbus-user-session linux-image-cloud-amd64 kmod procps iproute2 curl ca-certificates strace jq git'.split()
EXTRA = {'bullseye': [], 'bookworm': ['systemd-oomd'], 'trixie': ['systemd-oomd']}
# bullseye: its security archive is incomplete by now (404s), so only the main archive
ONLY_MAIN = {'bullseye'}
MODULES = 'virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk'.split()   # in the order of their dependencies
GUEST = ('tb-agent', 'tb-agent.service', 'tb-container.service', 'tb-init.c')
# what a boot under emulation can do without (each costs 0.1 to 1.5 s); a test that needs one unmasks it
MASK = '''getty@tty1.service serial-getty@ttyS0.service console-getty.service getty-static.service
systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-udev-settle.service systemd-hwdb-update.service
modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service modprobe@dm_mod.service
kmod-static-nodes.service systemd-modules-load.service
e2scrub_reap.service e2scrub_all.timer fstrim.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer logrotate.timer
systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-remount-fs.service systemd-sysusers.service systemd-machine-id-commit.service
systemd-binfmt.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service systemd-boot-random-seed.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
systemd-firstboot.service systemd-journal-catalog-update.service systemd-hibernate-clear.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-pstore.service
systemd-ask-password-console.path systemd-ask-password-wall.path ldconfig.service systemd-update-done.service
dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount tmp.mount run-lock.mount'''.split()
# systemd 247 refuses PrivateTmp= where tmp.mount is masked; Debian 11 does not enable it anyway
UNMASKED = {'bullseye': {'tmp.mount'}}
def masks(suite): return [u for u in MASK if u not in UNMASKED.get(suite, ())]

class TestbedError(Exception): pass
def log(*a): print('tbvm:', *a, file=sys.stderr, flush=True)
def sh(*c, **k): return subprocess.run(c, check=True, **k)
def read(p): return open(p, 'rb').read()

def key(suite, extra):
    h = hashlib.sha256()
    for x in [FORMAT, suite, MIRROR, *PKGS, *sorted(extra), *masks(suite), *MODULES, str(DISK_MB)]: h.update(x.encode() + b'\0')
    for f in GUEST: h.update(read(f'{HERE}/guest/{f}'))
    return h.hexdigest()[:16]

def qemu_key(smp, mem, warp):                             # a saved machine state belongs to one qemu version and one command line
    v = subprocess.run(['qemu-system-x86_64', '--version'], capture_output=True, check=True).stdout
    return f'{smp}x{mem}{"w" if warp else ""}-' + hashlib.sha256(v).hexdigest()[:8]

def host_mirror():
    """the Debian mirror this machine's apt uses"""
    o = subprocess.run(['apt-get', 'indextargets', '--format', '$(REPO_URI) $(CODENAME)', 'Created-By: Packages', 'Component: main'], capture_output=True, text=True, check=True).stdout
    for l in o.splitlines():
        uri, codename = l.split()[:2]
        if uri.rstrip('/').endswith('/debian') and codename in ('bullseye', 'bookworm', 'trixie'): return uri
    raise TestbedError('no Debian mirror in apt (run apt-get update, or set TBVM_MIRROR)')

def build_root(suite, extra, d):
    t0 = time.time(); root = f'{d}/root.d'
    src = f'deb {MIRROR or host_mirror()} {suite} main' if suite in ONLY_MAIN or MIRROR else None
    c = ['mmdebstrap', '--mode=root', '--variant=minbase', '--format=directory', '--quiet',
         '--include=' + ','.join(PKGS + extra),
         *[f'--dpkgopt=path-exclude=/usr/share/{x}/*' for x in ('man', 'locale', 'doc', 'info')],
         '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "5"', '--aptopt=Acquire::Check-Valid-Until "false"', suite, root]
    if src: c.append(src)
    sh(*c, env={**os.environ, 'INITRD': 'No', 'DEBIAN_FRONTEND': 'noninteractive'}, stdout=sys.stderr)   # INITRD=No: no initramfs is made (saves 6 s and a lot of noise)
    t1 = time.time()
    etc = f'{root}/etc/systemd/system'
    def put(p, text, mode=0o644):
        os.makedirs(os.path.dirname(f'{root}/{p}'), exist_ok=True)
        if os.path.lexists(f'{root}/{p}'): os.unlink(f'{root}/{p}')
        with open(f'{root}/{p}', 'w') as f: f.write(text)
        os.chmod(f'{root}/{p}', mode)
    # a fixed machine-id: an empty one makes systemd treat the boot as the first (preset-all: +2 s)
    put('etc/machine-id', '0123456789abcdef0123456789abcdef\n')
    put('etc/hostname', 'tbvm\n'); put('etc/hosts', '127.0.0.1 localhost tbvm\n::1 localhost\n'); put('etc/fstab', '')
    put('etc/systemd/journald.conf.d/tb.conf', '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nRateLimitIntervalSec=0\n')
    for u in masks(suite):
        if os.path.lexists(f'{etc}/{u}'): os.unlink(f'{etc}/{u}')
        os.symlink('/dev/null', f'{etc}/{u}')
    for u in ('systemd-oomd.service',):               # installed, but a test starts it when it wants it
        for w in ('multi-user.target.wants', 'sockets.target.wants'):
            for n in (u, 'systemd-oomd.socket'):
                if os.path.lexists(f'{etc}/{w}/{n}'): os.unlink(f'{etc}/{w}/{n}')
    if os.path.lexists(f'{etc}/default.target'): os.unlink(f'{etc}/default.target')
    os.symlink('/lib/systemd/system/multi-user.target', f'{etc}/default.target')
    put('usr/local/sbin/tb-agent', read(f'{HERE}/guest/tb-agent').decode(), 0o755)
    put('usr/local/sbin/tb-net', '''#!/bin/sh
modprobe virtio_net && sleep 0.2; n=$(ls /sys/class/net | grep -v '^lo$' | head -1); ip link set "$n" up && ip addr add 10.0.2.15/24 dev "$n" && ip route add default via 10.0.2.2
''', 0o755)
    os.makedirs(f'{etc}/multi-user.target.wants', exist_ok=True); os.makedirs(f'{root}/tb/in'); os.makedirs(f'{root}/tb/out')
    for u in ('tb-agent.service', 'tb-container.service'):
        put(f'etc/systemd/system/{u}', read(f'{HERE}/guest/{u}').decode())
        os.symlink(f'../{u}', f'{etc}/multi-user.target.wants/{u}')
    # kernel, and an initramfs of one static program and the virtio modules
    kv = os.listdir(f'{root}/lib/modules')[0]
    shutil.copy(f'{root}/boot/vmlinuz-{kv}', f'{d}/vmlinuz')
    i = f'{d}/initrd.d'; os.makedirs(f'{i}/m'); os.makedirs(f'{i}/dev')
    os.mknod(f'{i}/dev/console', 0o600 | 0o020000, os.makedev(5, 1))
    sh('gcc', '-Os', '-static', '-s', '-o', f'{i}/init', f'{HERE}/guest/tb-init.c')
    have = {}
    for b, _, fs in os.walk(f'{root}/lib/modules/{kv}/kernel/drivers'):
        for f in fs: have[re.sub(r'\.ko(\.\w+)?$', '', f).replace('-', '_')] = f'{b}/{f}'
    for n, m in enumerate(MODULES):
        p = have.get(m)
        if not p: continue                          # built in (trixie) or not split yet (bullseye)
        dec = {'xz': ['xz', '-dc'], 'zst': ['zstd', '-qdc'], 'ko': ['cat']}[p.rsplit('.', 1)[1]]
        with open(f'{i}/m/{n:02d}-{m}.ko', 'wb') as f: sh(*dec, p, stdout=f)
    with open(f'{d}/initrd', 'wb') as f:
        sh('sh', '-c', 'find . | cpio -o -H newc --quiet', cwd=i, stdout=f)
    with open(f'{d}/versions', 'w') as f:
        sh('dpkg-query', f'--admindir={root}/var/lib/dpkg', '-W', stdout=f)
    sh('truncate', '-s', '3G', f'{d}/root.img')
    sh('mke2fs', '-q', '-t', 'ext4', '-J', 'size=16', '-E', 'lazy_itable_init=1,nodiscard', '-d', root, f'{d}/root.img')
    shutil.rmtree(i); shutil.rmtree(f'{root}/boot'); shutil.rmtree(f'{root}/lib/modules')    # the rest stays, for --container
    log(f'{suite}: packages {t1-t0:.1f} s, image {time.time()-t1:.1f} s, kernel {kv}')

class VM:
    """one qemu process; everything about it lives in the folder w, and ends with it"""
    def __init__(s, d, w, overlay, indisk, outdisk, incoming=None, console=None, smp=1, mem=1024, forward=(), reboots=False, warp=False):
        s.d, s.w, s.t0 = d, w, time.time()
        s.console = console or f'{w}/console.log'
        a = ['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none', *([] if reboots else ['-no-reboot']),
             # one thread for all vCPUs: with thread=multi the guest kernel now and then dies in live patching ("Oops: int3")
             '-accel', 'tcg,thread=single', '-smp', str(smp), *(['-icount', 'shift=1,sleep=off'] if warp else []), '-cpu', 'max', '-m', str(mem),
             '-kernel', f'{d}/vmlinuz', '-initrd', f'{d}/initrd',
             '-append', 'console=ttyS0 quiet panic=-1 rw tsc=reliable systemd.show_status=0 tbroot=/dev/vda',
             '-chardev', f'file,id=con,path={s.console}', '-serial', 'chardev:con',
             '-chardev', f'socket,id=cmd,path={w}/cmd.sock,server=on,wait=off', '-serial', 'chardev:cmd',
             '-netdev', 'user,id=n0,restrict=on' + ''.join(f',hostfwd=tcp:127.0.0.1:{h}-:{g}' for h, g in (x.split(':') for x in forward)),
             '-device', 'virtio-net-pci,netdev=n0,romfile=',
             '-qmp', f'unix:{w}/qmp.sock,server=on,wait=off']
        for i, (f, fmt, ro) in enumerate([(overlay, 'qcow2', 'off'), (indisk, 'raw', 'on'), (outdisk, 'raw', 'off')]):
            a += ['-drive', f'file={f},format={fmt},if=none,id=d{i},cache=unsafe,readonly={ro}', '-device', f'virtio-blk-pci,drive=d{i}']
        if incoming: a += ['-incoming', f'exec:cat {incoming}']
        s.err = open(f'{w}/qemu.err', 'wb')
        s.p = subprocess.Popen(a, stdin=subprocess.DEVNULL, stdout=s.err, stderr=s.err,
                               preexec_fn=lambda: __import__('ctypes').CDLL(None).prctl(1, signal.SIGKILL))   # dies with us (PR_SET_PDEATHSIG)
        s.cmd = s.connect('cmd.sock'); s.q = s.connect('qmp.sock'); s.qf = s.q.makefile('rwb'); s.qf.readline(); s.qmp('qmp_capabilities')
        s.buf = b''
    def connect(s, n):
        for _ in range(500):
            c = socket.socket(socket.AF_UNIX)
            try: c.connect(f'{s.w}/{n}'); return c
            except OSError: c.close()
            if s.p.poll() is not None: break
            time.sleep(0.01)
        raise TestbedError('qemu did not start: ' + read(f'{s.w}/qemu.err').decode(errors='replace'))
    def qmp(s, c, **a):
        s.qf.write(json.dumps({'execute': c, 'arguments': a}).encode() + b'\n'); s.qf.flush()
        while True:
            l = s.qf.readline()
            if not l: raise TestbedError(f'qemu is gone at {c}')
            r = json.loads(l)
            if 'event' in r: continue
            if 'error' in r: raise TestbedError(f'{c}: {r["error"]}')
            return r['return']
    def resume(s):
        while s.qmp('query-status')['status'] == 'inmigrate': time.sleep(0.005)
        s.qmp('cont')
    def until(s, word, limit, sink=None):
        """copies what the guest writes to sink until the line '\\x1eWORD ...'; returns its words; None past limit"""
        end = time.time() + limit; mark = b'\x1e' + word.encode()
        while True:
            i = s.buf.find(b'\x1e')
            text = s.buf if i < 0 else s.buf[:i]
            if i >= 0 and b'\n' in s.buf[i:]:
                line, rest = s.buf[i:].split(b'\n', 1)
                if sink: sink(text[:-1] if text.endswith(b'\n') else text)
                s.buf = rest
                if line.startswith(mark): return line.decode(errors='replace').split()[1:]
                continue
            if sink and i < 0 and len(text) > 1: sink(text[:-1]); s.buf = text[-1:]      # hold back one byte: the newline before a mark is the agent's
            r, _, _ = select.select([s.cmd], [], [], max(0, end - time.time()))
            if not r: return None
            b = s.cmd.recv(65536)
            if not b: raise TestbedError('the machine died; its console ends:\n' + read(s.console)[-3000:].decode(errors='replace'))
            s.buf += b
    def save(s, path):
        s.qmp('stop'); s.qmp('migrate-set-parameters', **{'max-bandwidth': 10**12})
        s.qmp('migrate', uri=f'exec:cat > {path}')
        while (r := s.qmp('query-migrate')['status']) not in ('completed', 'failed'): time.sleep(0.01)
        if r != 'completed': raise TestbedError('saving the state failed')
    def quit(s):
        if s.p.poll() is None:
            try: s.qmp('quit'); s.p.wait(10)
            except Exception: pass
    def kill(s):
        if s.p.poll() is None: s.p.kill()
        s.p.wait(); s.err.close()

def blank(p): sh('truncate', '-s', f'{DISK_MB}M', p)
def overlay(p, back, fmt): sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', fmt, '-b', back, p)

def boot(d, sd, smp, mem, warp):
    """cold boot to 'running', then freeze: sd/state + sd/boot.qcow2"""
    for attempt in (1, 2, 3):
        w = workdir('tbvm-'); t0 = time.time(); vm = None
        try:
            overlay(f'{w}/boot.qcow2', f'{d}/root.img', 'raw'); blank(f'{w}/in'); blank(f'{w}/out')
            vm = VM(d, w, f'{w}/boot.qcow2', f'{w}/in', f'{w}/out', smp=smp, mem=mem, warp=warp)
            r = vm.until('TB-READY', 120, lambda b: sys.stderr.buffer.write(b))
            if r is None: raise TestbedError('not booted in 120 s: ' + read(vm.console)[-2000:].decode(errors='replace'))
            if r[0] != 'state=running': raise TestbedError(f'booted, but {r[0]}')
            t1 = time.time(); vm.save(f'{w}/state'); vm.quit()
            shutil.move(f'{w}/boot.qcow2', f'{sd}/boot.qcow2'); shutil.move(f'{w}/state', f'{sd}/state')
            log(f'booted in {t1-t0:.1f} s ({r[1]}), state of {os.path.getsize(sd+"/state")>>20} MiB saved in {time.time()-t1:.1f} s'); return
        except TestbedError as e:
            log(f'boot {attempt}: {e}')
        finally:
            if vm: vm.kill()
            shutil.rmtree(w, ignore_errors=True)
    raise TestbedError('three boots failed')

def base(suite, extra, smp=1, mem=1024, need_state=True, warp=False):
    """(folder of the root, folder of the booted state)"""
    extra = EXTRA.get(suite, []) + extra
    os.makedirs(CACHE, exist_ok=True)
    d = f'{CACHE}/{suite}-{key(suite, extra)}'; sd = f'{d}/state-{qemu_key(smp, mem, warp)}'
    with open(f'{CACHE}/lock-{suite}', 'w') as lk:
        fcntl.flock(lk, fcntl.LOCK_EX)
        if not os.path.exists(f'{d}/ok'):
            shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
            build_root(suite, extra, d); open(f'{d}/ok', 'w').close()
        if need_state and not os.path.exists(f'{sd}/ok'):
            shutil.rmtree(sd, ignore_errors=True); os.makedirs(sd)
            boot(d, sd, smp, mem, warp); open(f'{sd}/ok', 'w').close()
    os.utime(d)
    return d, sd

def sweep():
    """folders and cgroups of runs that were killed"""
    v2 = next((l.split()[1] for l in open('/proc/mounts') if l.split()[2] == 'cgroup2'), None)
    for n in os.listdir(tempfile.gettempdir()):
        w = f'{tempfile.gettempdir()}/{n}'
        if not n.startswith(('tbvm-', 'tbct-')) or not os.path.isdir(w): continue
        try:
            with open(f'{w}/lock') as f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError: continue
        except OSError: continue                       # alive
        if v2:
            for b, _, _ in os.walk(f'{v2}/{n}', topdown=False):
                try: os.rmdir(b)
                except OSError: pass
        shutil.rmtree(w, ignore_errors=True)

def workdir(prefix):
    # locked before it has the name that sweep() looks for
    new = tempfile.mkdtemp(prefix=f'new-{prefix}'); f = open(f'{new}/lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); workdir.held.append(f)
    w = f'{os.path.dirname(new)}/{os.path.basename(new)[4:]}'; os.rename(new, w); return w
workdir.held = []

def rooted(t): t.uid = t.gid = 0; t.uname = t.gname = 'root'; return t
def unpack(f, to):
    os.makedirs(to, exist_ok=True)
    with tarfile.open(f) as t: t.extractall(to, **({'filter': 'tar'} if hasattr(tarfile, 'tar_filter') else {}))

def run(a, command):
    d, sd = base(a.suite, a.package, a.smp, a.mem, warp=a.warp); t0 = time.time()
    src = f'{sd}/saved-{a.from_}' if a.from_ else sd
    if not os.path.exists(f'{src}/state'): raise TestbedError(f'no saved state {a.from_}')
    again = ('reboot', a.reboot) if a.reboot else ('reset', a.reset) if a.reset else None
    def sink(b): sys.stdout.buffer.write(b); sys.stdout.buffer.flush()
    for attempt in (1, 2, 3):
        w = workdir('tbvm-'); vm = None
        try:
            overlay(f'{w}/run.qcow2', f'{src}/boot.qcow2', 'qcow2'); blank(f'{w}/out')
            with tarfile.open(f'{w}/in', 'w', format=tarfile.GNU_FORMAT) as t:
                for name, text in [('tb-cmd', command)] + ([('tb-cmd2', again[1])] if again else []):
                    i = tarfile.TarInfo(name); i.size = len(text.encode()); t.addfile(i, io.BytesIO(text.encode()))
                if a.share: t.add(a.share, 'share', filter=rooted)
                else: i = tarfile.TarInfo('share'); i.type = tarfile.DIRTYPE; i.mode = 0o755; t.addfile(i)
            if os.path.getsize(f'{w}/in') > DISK_MB << 20: raise TestbedError('--share is larger than the disk')
            blank(f'{w}/in')
            vm = VM(d, w, f'{w}/run.qcow2', f'{w}/in', f'{w}/out', incoming=f'{src}/state', smp=a.smp, mem=a.mem, console=a.console, forward=a.forward, reboots=bool(again), warp=a.warp)
            vm.resume(); t1 = time.time()
            def command_in_guest(name):
                vm.cmd.sendall(f'RUN {time.time():.3f} {a.timeout * (100000 if a.warp else 1)} {name}\n'.encode())      # under --warp only the host's clock limits
                if vm.until('TB-START', 20) is None: return 'dead'
                return vm.until('TB-EXIT', a.timeout + 20, sink)
            r = command_in_guest('tb-cmd'); t2 = time.time()
            if r == 'dead':
                log(f'attempt {attempt}: the restored machine does not answer'); continue
            if again and r and r[0] == '0':
                if again[0] == 'reboot': vm.cmd.sendall(b'REBOOT\n')
                else: vm.qmp('system_reset')
                if vm.until('TB-READY', 120) is None: raise TestbedError(f'not back 120 s after the {again[0]}: ' + read(vm.console)[-3000:].decode(errors='replace'))
                r = command_in_guest('tb-cmd2')
                if r == 'dead': raise TestbedError('no answer after the ' + again[0])
            if r is None:
                log(f'no end {a.timeout + 20} s after the start: killed; the console ends:\n' + read(vm.console)[-3000:].decode(errors='replace')); return 124
            if a.save and r[0] == '0':
                s = f'{sd}/saved-{a.save}'; shutil.rmtree(s, ignore_errors=True); os.makedirs(s)
                vm.save(f'{s}/state'); vm.quit(); shutil.move(f'{w}/run.qcow2', f'{s}/boot.qcow2')
            if a.out: unpack(f'{w}/out', a.out)
            if a.verbose: log(f'restored in {t1-t0:.2f} s, command {t2-t1:.2f} s (guest clock {r[1]} s), total {time.time()-t0:.2f} s')
            return int(r[0])
        finally:
            if vm: vm.kill()
            shutil.rmtree(w, ignore_errors=True)
    raise TestbedError('three restores failed')

def container(a, command):
    """real systemd as PID 1 on the host's kernel: a private mount namespace in which /sys/fs/cgroup is a pure cgroup v2, and nspawn"""
    d, _ = base(a.suite, a.package, need_state=False); t0 = time.time()
    w = workdir('tbct-'); g = None
    try:
        v2 = next(l.split()[1] for l in open('/proc/mounts') if l.split()[2] == 'cgroup2')
        g = f'{v2}/{os.path.basename(w)}'; os.mkdir(g)
        os.makedirs(f'{w}/in'); os.makedirs(f'{w}/out')
        if a.share: shutil.copytree(a.share, f'{w}/in/share', symlinks=True)
        else: os.makedirs(f'{w}/in/share')
        open(f'{w}/in/tb-cmd', 'w').write(command); open(f'{w}/in/.limit', 'w').write(str(a.timeout)); open(f'{w}/out/.log', 'w').close()
        n = ['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--private-network', '--volatile=overlay', '--console=pipe', f'--machine=tb{os.getpid()}',
             f'--bind={w}/in:/tb/in', f'--bind={w}/out:/tb/out', '-D', f'{d}/root.d', '--boot']
        # the outer pid namespace only makes everything end with us, even when we are killed
        script = 'echo 0 > "$0/cgroup.procs" && umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && { "$@"; exit $?; }'
        p = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', '--pid', '--mount-proc', '--fork', '--kill-child', 'sh', '-c', script, g, *n], stdin=subprocess.DEVNULL,
                             stdout=open(f'{w}/console', 'wb'), stderr=subprocess.STDOUT, preexec_fn=lambda: __import__('ctypes').CDLL(None).prctl(1, signal.SIGKILL))
        pos = 0; end = time.time() + a.timeout + 20; t1 = None
        def flush():
            nonlocal pos
            with open(f'{w}/out/.log', 'rb') as f: f.seek(pos); b = f.read(); pos += len(b); sys.stdout.buffer.write(b); sys.stdout.buffer.flush()
        while p.poll() is None and time.time() < end: flush(); time.sleep(0.02)
        if p.poll() is None: return 124
        flush()
        if not os.path.exists(f'{w}/out/.rc'): raise TestbedError('the container ended without a result:\n' + read(f'{w}/console')[-3000:].decode(errors='replace'))
        rc = int(open(f'{w}/out/.rc').read())
        st = open(f'{w}/out/.state').read().strip()
        if st != 'running': log(f'the container booted {st}')
        if a.out: shutil.copytree(f'{w}/out', a.out, dirs_exist_ok=True, ignore=lambda _, ns: [x for x in ns if x in ('.log', '.rc', '.state')])
        if a.verbose: log(f'container, total {time.time()-t0:.2f} s')
        return rc
    finally:
        if g:                                           # end what is left in it, and only that
            end = time.time() + 10
            try: open(f'{g}/cgroup.kill', 'w').write('1')
            except OSError: pass
            while os.path.isdir(g) and time.time() < end:
                for b, _, _ in os.walk(g, topdown=False):
                    try: os.rmdir(b)
                    except OSError: pass
                if os.path.isdir(g): time.sleep(0.02)
        shutil.rmtree(w, ignore_errors=True)

def main():
    argv, command = sys.argv[1:], None
    if '--' in argv: i = argv.index('--'); argv, command = argv[:i], argv[i+1:]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('verb', choices=['base', 'run', 'gc']); p.add_argument('suite', nargs='?')
    p.add_argument('--package', action='append', default=[]); p.add_argument('--share'); p.add_argument('--out'); p.add_argument('--timeout', type=int, default=120)
    p.add_argument('--from', dest='from_'); p.add_argument('--save'); p.add_argument('--console'); p.add_argument('--reboot'); p.add_argument('--reset'); p.add_argument('--forward', action='append', default=[]); p.add_argument('--container', action='store_true'); p.add_argument('--warp', action='store_true'); p.add_argument('--smp', type=int, default=1); p.add_argument('--mem', type=int, default=1024); p.add_argument('-v', '--verbose', action='store_true')
    a = p.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sweep()
    try:
        if a.verb == 'base': print(base(a.suite, a.package, a.smp, a.mem, warp=a.warp)[0]); return 0
        if a.verb == 'gc':
            by = {}
            for n in os.listdir(CACHE):
                if os.path.isdir(f'{CACHE}/{n}'): by.setdefault(n.split('-')[0], []).append(f'{CACHE}/{n}')
            for l in by.values():
                for x in sorted(l, key=os.path.getmtime)[:-1]: shutil.rmtree(x)
            return 0
        import shlex
        return (container if a.container else run)(a, command[0] if len(command) == 1 else shlex.join(command))
    except (TestbedError, subprocess.CalledProcessError) as e:
        log(e); return 125
if __name__ == '__main__': sys.exit(main())
