# SPDX-License-Identifier: Apache-2.0
"""From a bare Debian 12 machine to VMs living on a Weft fabric.

  deploy/quickstart [--single]      bring it up, and do the main job
  deploy/quickstart --drill         the same, and then let everything fail, one
                                    after the other, under the guests' load
  deploy/quickstart status          what runs where, and what to try
  deploy/quickstart console a|b     a guest's console (leave with Ctrl-])
  deploy/quickstart down            take everything down again

Three hosts (network namespaces on this machine, so that nothing touches its
interfaces), each with an Open vSwitch, netd, blockd and a disk of its own; a
database of three servers.  On them: a pool with three replicas, a volume with a
small Linux, a second one made from it, two tenant networks with a router
between them, and two QEMU guests: A on host 1, its disk by vhost-user-blk; B on
host 2, its disk by NBD.  --single: one host, one database server, one replica.

As root.  Installs what it needs (deploy/packages.txt), builds Weft, keeps the
results in ${WEFT_CACHE:-/var/cache/weft}.  Everything else is under --dir, or
WEFT_QUICKSTART (default /tmp/weft-quickstart).  --bin DIR: a build that is
there is used as it is."""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import tty

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "deploy"))
import drill  # noqa: E402 pylint: disable=wrong-import-position

TESTBED = TOP / "deploy/testbed"
NEED_DISK_GIB, NEED_MEMORY_GIB = 8, 3
BOOT_S = 180
COPY_MIB = 4


class Stop(Exception):
    """What is wrong, and what would be right."""


def run(*command, check=True, **options):
    done = subprocess.run([str(c) for c in command], text=True,
                          capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, **options)
    if check and done.returncode != 0:
        raise Stop(f"'{' '.join(map(str, command))}' failed:\n"
                   f"{done.stdout}{done.stderr}".rstrip())
    return done


def wait_for(what, condition, seconds):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Stop(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)


def start_time(pid):
    """When a process began, in the kernel's ticks; None if it does not run."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


class Progress:
    """One line a step, with what it took."""

    def __init__(self):
        self.began = time.monotonic()

    def step(self, text, work):
        start = time.monotonic()
        live = sys.stdout.isatty()
        if live:
            print(f"  ...  {text}", end="", flush=True)
        try:
            result = work()
        except BaseException:
            print(f"{chr(13) if live else ''}  FAIL {text}", flush=True)
            raise
        took = time.monotonic() - start
        note = f": {result}" if isinstance(result, str) else ""
        print(f"{chr(13) if live else ''}  ok   {text}{note}"
              f"  ({took:.1f} s)", flush=True)
        return result


class Console:
    """A guest's serial console."""

    def __init__(self, path):
        self.path, self.text = path, ""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, seconds):
        ready, _, _ = select.select([self.socket], [], [], seconds)
        if not ready:
            return False
        data = self.socket.recv(65536)
        if not data:
            raise Stop(f"the guest behind {self.path} has ended")
        # Without what the shell's line editor says to the terminal.
        self.text += re.sub("\x1b\\[[0-9;]*[A-Za-z]", "",
                            data.decode(errors="replace"))
        return True

    def wait(self, pattern, seconds, what):
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise Stop(f"waited {seconds} s in vain for {what}; the "
                           f"console ends with:\n{self.text[-1500:]}")
            self.read(min(left, 1))

    def prompt(self, seconds=BOOT_S):
        """A shell that listens: what is sent before it does is lost."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.socket.sendall(b"\n")
            while self.read(0.5):
                pass
            if self.text.rstrip(" ").endswith("guest#"):
                self.text = ""
                return
        raise Stop(f"no shell on {self.path} within {seconds} s; the console "
                   f"ends with:\n{self.text[-1500:]}")

    def start(self, command):
        self.socket.sendall(command.encode() + b"; echo @@end-$?\n")

    def finish(self, command, seconds):
        end = time.monotonic() + seconds
        while True:
            found = re.search(r"@@end-(\d+)\r?\n", self.text)
            if found:
                out = self.text[:found.start()]
                self.text = self.text[found.end():]
                # After the last echo of the command: there are two when it
                # came before the prompt.
                out = out[out.rfind("@@end-$?"):].partition("\n")[2]
                out = out.replace("\r", "")
                if found.group(1) != "0":
                    raise Stop(f"in the guest '{command}' ended with "
                               f"{found.group(1)}:\n{out}")
                return out
            if time.monotonic() > end:
                raise Stop(f"in the guest '{command}' did not end within "
                           f"{seconds} s; it said:\n{self.text[-1500:]}")
            self.read(1)

    def run(self, command, seconds=60):
        self.start(command)
        return self.finish(command, seconds)


class Quickstart:
    def __init__(self, directory):
        self.dir = pathlib.Path(directory).resolve()
        self.fabric = self.dir / "fabric"
        self.state_path = self.dir / "quickstart.json"
        self.progress = Progress()
        self.state = {}
        self.here = "deploy/quickstart"     # How to call this one again.
        if self.dir != pathlib.Path(default_dir()).resolve():
            self.here += f" --dir {self.dir}"

    # ---- The machine ----

    def check_machine(self):
        if os.geteuid() != 0:
            raise Stop("this must run as root: it installs packages and makes "
                       "network namespaces; try 'sudo deploy/quickstart'")
        release = pathlib.Path("/etc/os-release").read_text()
        if "ID=debian" not in release or 'VERSION_ID="12"' not in release:
            raise Stop("this is not Debian 12, whose packages Weft is built "
                       "from; use a Debian 12 machine or container")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if memory < NEED_MEMORY_GIB << 30:
            raise Stop(f"{memory >> 20} MiB of memory; the hosts and guests "
                       f"together want {NEED_MEMORY_GIB} GiB")
        for place, remedy in ((self.dir.parent, "--dir"),
                              (cache_dir(), "WEFT_CACHE=DIRECTORY")):
            free = shutil.disk_usage(existing(place)).free
            if free < NEED_DISK_GIB << 30:
                raise Stop(f"{place} has {free >> 30} GiB free, of "
                           f"{NEED_DISK_GIB} that are needed; make room, or "
                           f"name another place by {remedy}")
        if run("unshare", "--net", "--mount", "true",
               check=False).returncode != 0:
            raise Stop("this root may not make network namespaces; in a "
                       "container that needs all privileges ('docker run "
                       "--privileged'); a virtual machine has them")
        disabled = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
        if disabled.exists() and disabled.read_text().strip() == "2":
            raise Stop("this kernel has io_uring switched off, which blockd "
                       "needs: 'sysctl kernel.io_uring_disabled=0'")
        if not os.path.exists("/dev/net/tun"):
            raise Stop("there is no /dev/net/tun, which guests' network "
                       "interfaces need: 'modprobe tun', or give it to this "
                       "container")
        return f"{os.cpu_count()} cores, {memory >> 30} GiB of memory"

    def install(self):
        run(TOP / "deploy/dependencies")

    def build(self):
        libovs = run(TOP / "deploy/libovs").stdout.strip().split("\n")[-1]
        cache = cache_dir()
        name = hashlib.sha256(f"{TOP} {libovs}".encode()).hexdigest()[:12]
        build = cache / f"build-{name}"
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / f"{build.name}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # They hold the lock as well, for the case that we are killed.
            held = {"pass_fds": (lock.fileno(),)}
            if not (build / "build.ninja").exists():
                shutil.rmtree(build, ignore_errors=True)
                run("meson", "setup", build, TOP,
                    "-Dbuildtype=debugoptimized", **held)
            run("ninja", "-C", build, "blockd/blockd", "netd/netd",
                "client/weft", **held)
        self.state["build"] = str(build)

    # ---- The fabric ----

    def testbed(self, *arguments):
        return run(TESTBED, "--dir", self.fabric, *arguments).stdout

    def weft(self, *arguments):
        return self.testbed("exec", "h1", "--", "weft", *arguments)

    def weft_json(self, *arguments):
        return json.loads(self.weft(*arguments, "-o", "json"))

    def hosts(self):
        return self.state["hosts"]

    def netns(self, host):
        """A host's network namespace; testbed chose its name."""
        try:
            state = json.loads((self.fabric / "testbed.json").read_text())
        except OSError:
            return None
        return f"{state['tag']}-{host}"

    def host_b(self):
        return self.hosts()[min(1, len(self.hosts()) - 1)]

    def raise_fabric(self):
        self.testbed("up", "--hosts", len(self.hosts()), "--bare", "--bin",
                     self.state["build"], "--disk-size", "4G")
        return ", ".join(self.hosts())

    def make_pool(self):
        copies = min(3, len(self.hosts()))
        self.weft("pool", "create", "main", "--replicas", copies,
                  "--min-in-sync", max(1, copies - 1), "--failure-domain",
                  "host")
        disks = json.loads((self.fabric / "testbed.json").read_text())["disks"]
        for host in self.hosts():
            self.weft("disk", "add", disks[host], "--host", host, "--pool",
                      "main")
        return "3 replicas, on 3 hosts" if copies == 3 else "1 replica"

    def make_image(self):
        image = run(TOP / "deploy/guest/image").stdout.strip().split("\n")[-1]
        self.state["image"] = image

    def import_volume(self):
        self.weft("volume", "import", f"{self.state['image']}/disk.raw",
                  "disk-a", "--pool", "main")

    def attach(self, volume, host, how):
        """Its socket path or URI."""
        return self.weft("volume", "attach", volume, "--host", host,
                         f"--{how}").strip().split("\n")[-1]

    def copy_volume(self):
        size = self.weft_json("volume", "show", "disk-a")["sizeBytes"]
        self.weft("volume", "create", "disk-b", "--size", size, "--pool",
                  "main")
        source = self.attach("disk-a", "h1", "nbd")
        target = self.attach("disk-b", self.host_b(), "nbd")
        self.testbed("exec", "h1", "--", "nbdcopy", "--flush", source, target)
        self.weft("volume", "detach", "disk-a")
        self.weft("volume", "detach", "disk-b")

    def make_networks(self):
        weft = self.weft
        weft("network", "create", "blue")
        weft("subnet", "create", "blue-v4", "--network", "blue", "--cidr",
             "10.0.0.0/24", "--gateway", "10.0.0.1")
        weft("network", "create", "green")
        weft("subnet", "create", "green-v4", "--network", "green", "--cidr",
             "10.0.1.0/24", "--gateway", "10.0.1.1")
        weft("router", "create", "between")
        for subnet in ("blue-v4", "green-v4"):
            weft("router", "attach", "between", "--subnet", subnet)
        weft("security-group", "create", "guests")
        for proto in (("icmp",), ("tcp", "--ports", "5000")):
            weft("security-rule", "create", "--group", "guests",
                 "--direction", "in", "--from-group", "guests", "--proto",
                 *proto)
        weft("port", "create", "port-a", "--network", "blue", "--group",
             "guests")
        weft("port", "create", "port-b", "--network", "green", "--group",
             "guests")
        return "blue and green, a router, a security group, two ports"

    # ---- Guests ----

    def start_guest(self, name, host, how):
        port = f"port-{name}"
        tap = f"tap-{name}"
        self.weft("port", "plug", port, "--host", host, "--tap", tap, "--wait")
        show = self.weft_json("port", "show", port)
        disk = self.attach(f"disk-{name}", host, how)
        directory = self.dir / f"guest-{name}"
        directory.mkdir(exist_ok=True)
        if how == "vhost-user":
            disk_arguments = [
                "-chardev", f"socket,id=disk,path={disk},reconnect=1",
                "-device", "vhost-user-blk-pci,chardev=disk,num-queues=1"]
        else:
            disk_arguments = [
                "-blockdev", "driver=nbd,node-name=disk,reconnect-delay=60,"
                "server.type=inet," + nbd_address(disk),
                "-device", "virtio-blk-pci,drive=disk"]
        command = [
            "ip", "netns", "exec", self.netns(host), "qemu-system-x86_64",
            "-accel", "tcg", "-nodefaults", "-no-user-config", "-display",
            "none", "-name", f"weft-{name}", "-m", "192M", "-object",
            "memory-backend-memfd,id=mem,size=192M,share=on", "-machine",
            "pc,memory-backend=mem", "-kernel",
            f"{self.state['image']}/vmlinux", "-initrd",
            f"{self.state['image']}/initrd", "-append",
            "console=ttyS0 quiet panic=5 no_timer_check", "-chardev",
            f"socket,id=console,path={directory}/console,server=on,wait=off,"
            f"logfile={directory}/console.log", "-serial", "chardev:console",
            *disk_arguments, "-netdev",
            f"tap,id=net,ifname={tap},script=no,downscript=no,vnet_hdr=off",
            "-device", f"virtio-net-pci,netdev=net,mac={show['mac']}"]
        with open(directory / "qemu.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        self.state.setdefault("guests", {})[name] = {
            "pid": process.pid, "start": start_time(process.pid),
            "host": host, "disk": how, "tap": tap,
            "addresses": show["addresses"]}
        self.save()
        wait_for(f"the console of guest {name.upper()}",
                 lambda: (directory / "console").exists() or
                 self.guest_died(name), 20)
        return f"{show['addresses'][0]} on {host}, disk by {how}"

    def guest_died(self, name):
        guest = self.state["guests"][name]
        if start_time(guest["pid"]) != guest["start"]:
            log = self.dir / f"guest-{name}" / "qemu.log"
            raise Stop(f"QEMU of guest {name.upper()} ended:\n"
                       f"{log.read_text()[-1500:]}")
        return False

    def console(self, name):
        return Console(self.dir / f"guest-{name}" / "console")

    def address(self, name):
        return self.state["guests"][name]["addresses"][0]

    def wait_booted(self):
        for name in ("a", "b"):
            with self.console(name) as console:
                console.prompt()
                address = self.address(name)
                console.run(f"until ip address show dev eth0 | grep -q "
                            f"'{address}/'; do usleep 200000; done", 60)
                root = console.run("grep -c '^/dev/.* / ext4' /proc/mounts "
                                   "|| cat /proc/mounts")
                if "1" not in root:
                    raise Stop(f"guest {name.upper()} has no ext4 root:\n"
                               f"{root}")
        return "root on the volumes, addresses by DHCP"

    def ping(self):
        with self.console("a") as console:
            console.prompt()
            out = console.run(f"ping -c 5 {self.address('b')}", 60)
        found = re.search(r"(\d+) packets received", out)
        if not found or found.group(1) == "0":
            raise Stop(f"guest A cannot ping guest B:\n{out}")
        way = "on one host" if len(self.hosts()) == 1 else "host to host"
        return f"{found.group(1)} of 5 came back, by the router, {way}"

    def copy_file(self):
        with self.console("a") as a, self.console("b") as b:
            a.prompt()
            b.prompt()
            b.start("nc -l -p 5000 > /data/copy; sync; md5sum /data/copy")
            b.wait("md5sum /data/copy; echo", 10, "the echo of the command")
            a.run("until false; do dd if=/dev/urandom of=/data/file bs=1M "
                  f"count={COPY_MIB} 2>/dev/null && break; done; sync", 60)
            sent = a.run("md5sum /data/file", 60).split()[0]
            a.run(f"nc {self.address('b')} 5000 < /data/file", 120)
            got = b.finish("nc", 120)
            if sent not in got:
                raise Stop(f"the copy differs: {sent} was sent, {got}")
        return f"{COPY_MIB} MiB from A to B, equal"

    def write_disk(self):
        for name in ("a", "b"):
            with self.console(name) as console:
                console.prompt()
                console.run("dd if=/dev/zero of=/data/fsync bs=64k count=64 "
                            "conv=fsync 2>/dev/null", 120)
        return "4 MiB and fsync in both"

    # ---- Commands ----

    def save(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        temporary = self.state_path.with_suffix(".new")
        temporary.write_text(json.dumps(self.state, indent=1))
        temporary.replace(self.state_path)

    def load(self):
        if not self.state_path.exists():
            raise Stop(f"there is no fabric in {self.dir}; "
                       f"'{self.here}' brings one up")
        self.state = json.loads(self.state_path.read_text())

    def is_up(self):
        if not self.state_path.exists():
            return False
        self.load()
        # What was complete is gone after a restart of this machine.
        return self.state.get("done", False) and any(
            line.split()[:1] == [self.netns("h1")] for line in
            run("ip", "netns", "list").stdout.split("\n"))

    def up(self, single, binaries):
        step = self.progress.step
        if self.is_up():
            words = {1: "one host", 3: "three hosts"}
            there, wanted = len(self.hosts()), 1 if single else 3
            if there != wanted:
                raise Stop(f"the fabric that is up has {words[there]}, and "
                           f"{words[wanted]} are wanted: '{self.here} down' "
                           "first")
            print("The fabric is up already.")
            return
        if self.state_path.exists():
            step("remove what an earlier try left", self.tear_down)
        self.state = {"hosts": ["h1"] if single else ["h1", "h2", "h3"]}
        step("look at this machine", self.check_machine)
        self.save()
        step("install Debian packages (some minutes at first)", self.install)
        if binaries:
            self.state["build"] = str(pathlib.Path(binaries).resolve())
        else:
            step("build Weft (some minutes at first)", self.build)
        step("build a small Linux on a disk image", self.make_image)
        step("bring up the fabric", self.raise_fabric)
        step("create a pool", self.make_pool)
        step("import the image into volume disk-a", self.import_volume)
        step("make volume disk-b from it", self.copy_volume)
        step("create the tenant's networks", self.make_networks)
        step("start guest A", lambda: self.start_guest(
            "a", "h1", "vhost-user"))
        step("start guest B", lambda: self.start_guest(
            "b", self.host_b(), "nbd"))
        step("wait until both have booted", self.wait_booted)
        step("ping from A to B", self.ping)
        step("copy a file over TCP", self.copy_file)
        step("write to disk and fsync", self.write_disk)
        self.state["done"] = True
        self.save()
        print(f"\nAll of it took "
              f"{time.monotonic() - self.progress.began:.0f} s.")

    def screen(self):
        here, last = self.here, self.hosts()[-1]
        print("\nWhat runs where")
        print(self.testbed("status").rstrip())
        for name, guest in self.state["guests"].items():
            alive = start_time(guest["pid"]) == guest["start"]
            print(f"guest {name.upper()} on {guest['host']}: "
                  f"{guest['addresses'][0]}, disk-{name} by {guest['disk']}, "
                  f"{'running' if alive else 'ended'}, pid {guest['pid']}")
        print(f"""
Look (first, for what follows: export WEFT_TESTBED={self.fabric})
  deploy/testbed exec h1 -- weft status
  deploy/testbed exec h1 -- weft volume show disk-a
  deploy/testbed exec h1 -- weft port list
  deploy/testbed exec h1 -- weft net trace --from port-a --to \
{self.address('b')} --proto icmp
  {here + ' console a':<41}a guest's shell; Ctrl-] leaves
""")
        if len(self.hosts()) == 1:
            print(f"""\
Break something, and watch it heal (in a guest: ping {self.address('b')})
  deploy/testbed kill h1 blockd            the guests' disks wait ...
  deploy/testbed start h1 blockd           ... until it is back
  deploy/testbed kill h1 netd              pings go on: flows stay
  deploy/testbed start h1 netd""")
        else:
            print(f"""\
Break something, and watch it heal (in guest A: ping {self.address('b')})
  deploy/testbed kill {last} blockd            a replica is gone ...
  deploy/testbed exec h1 -- weft volume show disk-a
  deploy/testbed start {last} blockd           ... and catches up
  deploy/testbed kill h1 netd              pings go on: flows stay
  deploy/testbed start h1 netd
  {here + ' --drill':<41}all of it, with a table""")
        print(f"""
Take it down
  {here} down""")

    def tear_down(self):
        for guest in self.state.get("guests", {}).values():
            if start_time(guest["pid"]) == guest["start"]:
                os.kill(guest["pid"], signal.SIGKILL)
        for guest in self.state.get("guests", {}).values():
            wait_for("a guest to end", lambda g=guest: start_time(
                g["pid"]) != g["start"], 20)
        self.testbed("down")
        shutil.rmtree(self.dir, ignore_errors=True)

    def down(self):
        if self.state_path.exists():
            self.load()
        elif not self.dir.exists():
            print("Nothing is there to take down.")
            return
        self.progress.step("take everything down", self.tear_down)

    def run_drill(self):
        print("\nLet everything fail, one after the other")
        drill.Drill(self).run()

    def open_console(self, name):
        self.load()
        if not sys.stdin.isatty():
            raise Stop("a console wants a terminal")
        try:
            console = self.console(name)
        except OSError:
            raise Stop(f"guest {name.upper()} does not run, see "
                       f"'{self.here} status'") from None
        with console:
            print(f"Guest {name.upper()}; Ctrl-] leaves.", flush=True)
            attach_terminal(console.socket)


def default_dir():
    return os.environ.get("WEFT_QUICKSTART", "/tmp/weft-quickstart")


def cache_dir():
    return pathlib.Path(os.environ.get("WEFT_CACHE", "/var/cache/weft"))


def existing(path):
    """The path, or the nearest above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def nbd_address(uri):
    """nbd://HOST:PORT/EXPORT in the words of -blockdev."""
    found = re.fullmatch(r"nbd://([^:/]+):(\d+)/(.+)", uri)
    if not found:
        raise Stop(f"no NBD address: {uri}")
    host, port, export = found.groups()
    return f"server.host={host},server.port={port},export={export}"


def attach_terminal(remote):
    """Copies between the terminal and the socket until Ctrl-]."""
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        remote.sendall(b"\n")
        while True:
            ready, _, _ = select.select([sys.stdin, remote], [], [])
            if remote in ready:
                data = remote.recv(65536)
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            if sys.stdin in ready:
                data = os.read(sys.stdin.fileno(), 1024)
                if not data or b"\x1d" in data:
                    return
                remote.sendall(data)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print()


def main():
    parser = argparse.ArgumentParser(
        prog="deploy/quickstart", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default=default_dir())
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--drill", action="store_true")
    parser.add_argument("--bin", metavar="DIR")
    commands = parser.add_subparsers(dest="command")
    for name in ("up", "status", "down"):
        commands.add_parser(name)
    commands.add_parser("console").add_argument("guest", choices=("a", "b"))
    arguments = parser.parse_args()
    if arguments.single and arguments.drill:
        parser.error("a drill wants three hosts: not with --single")
    quickstart = Quickstart(arguments.dir)
    lock_path = quickstart.dir.with_name(f".{quickstart.dir.name}.lock")
    try:
        if arguments.command in (None, "up", "down"):
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(lock_path, "w", encoding="ascii")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Stop("another deploy/quickstart is at work in "
                           f"{quickstart.dir}") from None
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        if arguments.command == "down":
            quickstart.down()
            lock_path.unlink(missing_ok=True)
        elif arguments.command == "status":
            quickstart.load()
            quickstart.screen()
        elif arguments.command == "console":
            quickstart.open_console(arguments.guest)
        else:
            quickstart.up(arguments.single, arguments.bin)
            if arguments.drill:
                quickstart.run_drill()
            quickstart.screen()
    except (Stop, drill.DrillError, KeyboardInterrupt) as stop:
        said = stop if str(stop) else "interrupted"
        print(f"\nquickstart: {said}", file=sys.stderr)
        if quickstart.state_path.exists() and arguments.command in (
                None, "up") and not quickstart.state.get("done"):
            print("quickstart: what there is is kept to be looked at; "
                  f"'{quickstart.here}' begins anew, '{quickstart.here} down' "
                  "removes it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
