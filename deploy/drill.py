# SPDX-License-Identifier: Apache-2.0
"""deploy/quickstart --drill: what fails, one after the other, under two guests.

In both guests weft-load (deploy/guest/load.c) writes and verifies random blocks
of the volume and pings the other guest.  Each fault is made, waited for until
the fabric has noticed and the guests go on, and mended; then all must come back
by itself: every replica in sync, the daemons up, the database complete, ports
up, both guests at work.  Nothing waits for a time, all for a condition with a
deadline."""

import json
import re
import subprocess
import time

FILE, FILE_MIB = "/data/load", 6
DEADLINE_S = 60
START_S = 120       # The load writes its whole file first.
OPS, PINGS = 40, 10  # What a guest at work does in a second or so.
SOON_S = 0.02
LINE = re.compile(r"@@(load|done) ops=(\d+) errors=(\d+) wrong=(\d+) "
                  r"stall=(\d+) sent=(\d+) lost=(\d+)\r?\n")
HEAD = ("FAULT", "I/O ERRORS", "WRONG BYTES", "LONGEST STALL", "PINGS LOST",
        "REDUNDANT AGAIN")


class DrillError(Exception):
    """What did not come about."""


def try_run(*command):
    return subprocess.run([str(word) for word in command], text=True,
                          capture_output=True, check=False,
                          stdin=subprocess.DEVNULL)


class Load:
    """weft-load in one guest, and what it said so far."""

    def __init__(self, name, console, target):
        self.name, self.console = name, console
        self.ops = self.errors = self.wrong = self.sent = self.lost = 0
        self.stall, self.lines, self.is_done = 0, 0, False
        console.prompt()
        console.start(f"dmesg -c >/dev/null; weft-load {FILE} {FILE_MIB} "
                      f"{target}")

    def poll(self):
        while self.console.read(0):
            pass
        text, end = self.console.text, 0
        for found in LINE.finditer(text):
            end = found.end()
            (self.ops, self.errors, self.wrong, stall, self.sent,
             self.lost) = map(int, found.groups()[1:])
            self.stall = max(self.stall, stall)
            self.lines += 1
            self.is_done = found.group(1) == "done"
        self.console.text = text[end:]
        if "@@end-" in self.console.text.replace("@@end-$?", ""):
            if not self.is_done:
                raise DrillError(f"the load of guest {self.name.upper()} "
                                 f"ended:\n{text[-1500:]}")

    def answered(self):
        return self.sent - self.lost

    def mark(self):
        """Where it is; since() compares with it."""
        return self.ops, self.answered(), self.lines

    def since(self, mark, ops, pings):
        """Whether it has done so much since then.  The first line after a mark
        may tell of what was before."""
        return self.ops >= mark[0] + ops and self.lines >= mark[2] + 2 and \
            self.answered() >= mark[1] + pings


class Drill:
    """One drill on a fabric that is up (quickstart: its Quickstart)."""

    def __init__(self, quickstart):
        self.up = quickstart
        self.loads = []
        self.rows = []
        self.wrong_or_errors = 0

    # ---- Watching ----

    def poll(self):
        for load in self.loads:
            load.poll()

    def marks(self):
        self.poll()
        return [load.mark() for load in self.loads]

    def are_at_work(self, marks, ops=OPS, pings=PINGS):
        """Whether both guests have done so much since then."""
        return all(load.since(mark, ops, pings)
                   for load, mark in zip(self.loads, marks))

    def wait(self, what, condition, seconds=DEADLINE_S):
        end = time.monotonic() + seconds
        while True:
            self.poll()
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise DrillError(f"waited {seconds} s in vain for {what}")
            time.sleep(SOON_S)

    def wait_work(self, what):
        """Until both guests have done more than they had."""
        marks = self.marks()
        self.wait(f"the guests to go on {what}",
                  lambda: self.are_at_work(marks))

    def ask(self, *arguments, host="h1"):
        """weft at a host, as JSON; None if it has no answer now."""
        daemon = "netd" if arguments[0] == "port" else "blockd"
        done = try_run(
            f"{self.up.state['build']}/client/weft", *arguments, "--endpoint",
            f"unix:{self.up.fabric}/{host}/run/{daemon}.sock", "--timeout",
            "5s", "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def volumes(self):
        return [self.ask("volume", "show", f"disk-{name}")
                for name in ("a", "b")]

    def is_stale(self, host):
        """Whether both volumes go on without their replicas of a host."""
        return all(volume and volume["health"] == "DEGRADED" and all(
            replica["state"] == "STALE" for mirror in volume["mirrors"]
            for replica in mirror["replicas"]
            if replica["host"] == f"hosts/{host}")
            for volume in self.volumes())

    def is_redundant(self):
        return all(volume and volume["health"] == "HEALTHY" and all(
            replica["state"] == "IN_SYNC" for mirror in volume["mirrors"]
            for replica in mirror["replicas"])
            for volume in self.volumes())

    def is_daemon_up(self, host):
        """Whether blockd and netd of a host answer, with the database."""
        block = self.ask("status", host=host)
        ports = self.ask("port", "list", host=host)
        return block and block["database"]["state"] == "CONNECTED" and \
            ports and all(port["state"] == "UP" for port in ports["ports"])

    def database(self, host):
        """A database server's role, or None if it is no member."""
        control = self.up.fabric / host / "run/db.ctl"
        done = try_run("ovs-appctl", "-T", "5", "-t", control,
                       "cluster/status", "Weft")
        if done.returncode != 0 or \
                "Status: cluster member" not in done.stdout or \
                "Leader: unknown" in done.stdout:
            return None
        found = re.search(r"(?m)^Role: (\w+)", done.stdout)
        return found and found.group(1)

    def leader(self, hosts):
        for host in hosts:
            if self.database(host) == "leader":
                return host
        return None

    def is_whole(self):
        hosts = self.up.hosts()
        return self.is_redundant() and \
            all(self.is_daemon_up(host) for host in hosts) and \
            all(self.database(host) for host in hosts) and self.is_redundant()

    # ---- Faults: each yields when it has been made and noticed ----

    def kill(self, host, daemon):
        self.up.testbed("kill", host, daemon)

    def start(self, host, daemon):
        self.up.testbed("start", host, daemon)

    def wait_degraded(self, host):
        self.wait(f"the volumes to go on without {host}",
                  lambda: self.is_stale(host))
        self.wait_work(f"without {host}")

    def replica(self):
        self.kill("h3", "blockd")
        self.wait_degraded("h3")
        yield
        self.start("h3", "blockd")

    def owner(self, name):
        """Its guest waits until it is back, so that it is back at once."""
        host = self.up.state["guests"][name]["host"]
        show = ("volume", "show", f"disk-{name}")
        epoch = int(self.wait("the volume", lambda: self.ask(*show))["epoch"])
        self.kill(host, "blockd")
        yield
        self.start(host, "blockd")

        def is_taken():
            volume = self.ask(*show)
            return volume and int(volume["epoch"]) > epoch
        self.wait(f"{host} to take its volume again", is_taken)

    def netd(self):
        """Flows stay: packets pass while it is away."""
        self.kill("h1", "netd")
        self.wait_work("without netd")
        yield
        self.start("h1", "netd")

    def switch(self):
        """Without it nothing passes, so that it is back at once."""
        self.kill("h1", "ovs")
        yield
        self.start("h1", "ovs")

    def database_leader(self):
        hosts = self.up.hosts()
        victim = self.wait("a leader", lambda: self.leader(hosts))
        rest = [host for host in hosts if host != victim]
        self.kill(victim, "db")
        self.wait("another leader", lambda: self.leader(rest))
        self.wait_work("with another leader")
        yield
        self.start(victim, "db")

    def whole_host(self):
        daemons = "blockd", "netd", "ovs", "ovsdb", "db"
        self.up.testbed("link", "h3", "down")
        for daemon in daemons:
            self.kill("h3", daemon)
        self.wait_degraded("h3")
        yield
        self.up.testbed("link", "h3", "up")
        for daemon in reversed(daemons):
            self.start("h3", daemon)

    def cut(self):
        self.up.testbed("link", "h3", "down")
        self.wait_degraded("h3")
        yield
        self.up.testbed("link", "h3", "up")

    def faults(self):
        guests = self.up.state["guests"]
        return (
            ("a replica's blockd (h3)", self.replica()),
            (f"blockd under guest A ({guests['a']['host']}, vhost-user)",
             self.owner("a")),
            (f"blockd under guest B ({guests['b']['host']}, NBD)",
             self.owner("b")),
            ("netd (h1)", self.netd()),
            ("ovs-vswitchd (h1)", self.switch()),
            ("the database's leader", self.database_leader()),
            ("a whole host (h3)", self.whole_host()),
            ("the storage link of h3", self.cut()),
        )

    # ---- The drill ----

    def total(self, what):
        return sum(getattr(load, what) for load in self.loads)

    def endure(self, name, fault):
        """One fault from its beginning to full redundancy: a row."""
        self.poll()
        before = [self.total(what) for what in ("errors", "wrong", "lost")]
        for load in self.loads:
            load.stall = 0
        took = None
        try:
            next(fault)
            back, marks = time.monotonic(), self.marks()
            next(fault, None)
            self.wait("the guests to go on again",
                      lambda: self.are_at_work(marks, 4, 2))
            self.wait("full redundancy", self.is_whole)
            took = time.monotonic() - back
            # A ping counts as lost after a second.
            self.wait_work("after it")
        finally:
            errors, wrong, lost = (
                self.total(what) - was for what, was in
                zip(("errors", "wrong", "lost"), before))
            self.wrong_or_errors += errors + wrong
            stall = max(load.stall for load in self.loads)
            self.rows.append((name, str(errors), str(wrong),
                              f"{stall / 1000:.2f} s", str(lost),
                              "NEVER" if took is None else f"{took:.1f} s"))
        return self.rows[-1][5]

    def begin(self):
        for name, other in (("a", "b"), ("b", "a")):
            self.loads.append(Load(name, self.up.console(name),
                                   self.up.address(other)))
        blocks = FILE_MIB * 256
        self.wait("the load to write its files", lambda: all(
            load.ops > blocks for load in self.loads), START_S)
        self.wait("full redundancy before all", self.is_whole)
        self.wait_work("before all")

    def finish(self):
        """Reads all that was ever written; errors the kernel saw count."""
        before = self.total("errors"), self.total("wrong")
        for load in self.loads:
            load.console.socket.sendall(b"\n")
        self.wait("the load to read all again",
                  lambda: all(load.is_done for load in self.loads), START_S)
        errors = self.total("errors") - before[0]
        wrong = self.total("wrong") - before[1]
        for load in self.loads:
            load.console.prompt()
            out = load.console.run("dmesg | grep -ciE 'I/O error|EXT4-fs "
                                   "error|vda.*(reset|timeout)' || true")
            errors += int(out.split()[0])
        self.rows.append(("afterwards: all read again, kernel log",
                          str(errors), str(wrong), "", "", ""))
        self.wrong_or_errors += errors + wrong
        return f"{self.total('ops')} requests, {self.total('sent')} pings"

    def close(self):
        """A load that still runs ends by a new line."""
        for load in self.loads:
            if not load.is_done:
                load.console.socket.sendall(b"\n")
            load.console.socket.close()

    def print_table(self):
        rows = [HEAD, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        print()
        for row in rows:
            print("  ".join(
                word.ljust(width) if i == 0 else word.rjust(width)
                for i, (word, width) in enumerate(zip(row, widths))).rstrip())
        print("""
LONGEST STALL: of any request of a guest, from the fault until all is well.
Under a guest's own blockd most of it is QEMU, which tries again each second.
PINGS LOST: of ten a second from either guest, without an answer in a second.
REDUNDANT AGAIN: since what failed was given back; as seen a few times a
second.""", flush=True)

    def run(self):
        """Raises unless nothing was lost and all came back."""
        step = self.up.progress.step
        try:
            step("start the load in both guests", self.begin)
            for name, fault in self.faults():
                step(name, lambda n=name, f=fault: self.endure(n, f))
            step("read everything again", self.finish)
        finally:
            self.close()
            if self.rows:
                self.print_table()
        if self.wrong_or_errors:
            raise DrillError("guests saw errors or wrong bytes")
