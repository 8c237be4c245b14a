#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A verifying NBD load that survives its server.

  nbd_load.py --uri nbd://ADDRESS:PORT/NAME [--offset N] [--size N] [--depth N]
              [--seed N] [--model FILE] [--verify-only] [--abandon]
              [--hold-errors] [--patience SECONDS]

Writes, reads, trims, zeroes and flushes at random until its standard input
ends; then it reads everything back.  Each 4 KiB block carries its number and
the count of its writes, so that a lost or misplaced write is told apart.

When the connection breaks it connects again and repeats the requests that were
not answered, as a guest's driver would: what was acknowledged before must be
there, what was not may be.  Any error that the server answers is one.  (With
--hold-errors, ENOSPC is none: the write is not taken for done.)

The model of what is legal in each block outlives the process in --model, for
another one, elsewhere, to go on with or to verify.  With --abandon it ends
without waiting for answers: then that is what remains to be done.

Standard output: a line of JSON each 0.1 s, {"done": requests so far}, and at
the end the report.  Exit code 0: no mismatch, no error."""

import argparse
import collections
import errno
import json
import os
import random
import select
import socket
import struct
import sys
import time
import urllib.parse

BLOCK = 4096
READ, WRITE, FLUSH, TRIM, ZERO = 0, 1, 3, 4, 6
NAMES = {READ: 'read', WRITE: 'write', FLUSH: 'flush', TRIM: 'trim',
         ZERO: 'write-zeroes'}
FLAG_FUA = 1
STALL_S = 0.1
ZEROS = bytes(BLOCK)


class Dropped(Exception):
    """The connection is gone."""


class Abandoned(Exception):
    """Told to end, --abandon."""


class Connection:
    """NBD with simple replies."""

    def __init__(self, uri, timeout):
        parts = urllib.parse.urlparse(uri)
        if parts.scheme == 'nbd+unix':
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            address = urllib.parse.parse_qs(parts.query)['socket'][0]
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(
                (parts.hostname, parts.port or 10809), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.out = bytearray()
        try:
            self.size = self.negotiate(parts.path.lstrip('/').encode())
        except BaseException:
            self.socket.close()
            raise
        self.socket.setblocking(False)

    def take(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise Dropped('end of stream while negotiating')
            data += part
        return bytes(data)

    def negotiate(self, name):
        magic, option_magic, _flags = struct.unpack('>8s8sH', self.take(18))
        if magic != b'NBDMAGIC' or option_magic != b'IHAVEOPT':
            raise Dropped(f'not an NBD server: {magic} {option_magic}')
        data = struct.pack('>I', len(name)) + name + struct.pack('>H', 0)
        # Fixed newstyle, no zeroes; then NBD_OPT_GO.
        self.socket.sendall(struct.pack('>I', 3) + b'IHAVEOPT' +
                            struct.pack('>II', 7, len(data)) + data)
        size = None
        while True:
            _, _, kind, length = struct.unpack('>QIII', self.take(20))
            data = self.take(length)
            if kind == 1:    # NBD_REP_ACK
                return size
            if kind & 1 << 31:
                raise Dropped(f'export refused: {kind & 0xff} {data[:200]}')
            if kind == 3 and data[:2] == b'\0\0':
                size = struct.unpack('>Q', data[2:10])[0]

    def send(self, flags, kind, handle, offset, length, data=b''):
        self.out += struct.pack('>IHHQQI', 0x25609513, flags, kind, handle,
                                offset, length)
        self.out += data

    def work(self, seconds):
        """Sends and receives what is possible; waits for that once."""
        events = select.POLLIN | (select.POLLOUT if self.out else 0)
        poll = select.poll()
        poll.register(self.socket, events)
        ready = poll.poll(seconds * 1000)
        try:
            if self.out:
                del self.out[:self.socket.send(self.out)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Dropped(str(error)) from None
        if ready:
            try:
                part = self.socket.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError as error:
                raise Dropped(str(error)) from None
            if not part:
                raise Dropped('end of stream')
            self.buffer += part

    def replies(self, length_of):
        """The (handle, error, data) that have come whole."""
        while len(self.buffer) >= 16:
            magic, error, handle = struct.unpack_from('>IIQ', self.buffer)
            if magic != 0x67446698:
                raise Dropped(f'bad reply magic {magic:#x}')
            length = 0 if error else length_of(handle)
            if len(self.buffer) < 16 + length:
                return
            data = bytes(self.buffer[16:16 + length])
            del self.buffer[:16 + length]
            yield handle, error, data


Request = collections.namedtuple(
    'Request', 'kind flags first count versions begun')


class Load:
    """What is known of the volume, and the requests under way."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.rng = random.Random(arguments.seed)
        self.connection = None
        self.first = arguments.offset // BLOCK
        self.blocks = 0
        # Legal versions of each block that is not known to be zeros; the
        # version 0 is zeros.
        self.legal = {}
        self.version = 0
        self.requests = {}      # By handle.
        self.busy = set()       # Blocks of requests in flight.
        self.handle = 0
        self.done = collections.Counter()
        self.mismatches = []
        self.errors = []
        self.reconnects = 0
        self.longest = 0.0
        self.stalls = []
        self.refused_connections = collections.Counter()
        self.no_space = 0
        if arguments.model and os.path.exists(arguments.model):
            self.load_model()
            self.rng.seed(self.version)

    # ---- Model ----

    def load_model(self):
        with open(self.arguments.model, encoding='ascii') as file:
            model = json.load(file)
        self.version = model['version']
        self.arguments.seed = model['seed']
        self.legal = {int(block): tuple(versions)
                      for block, versions in model['legal'].items()}

    def save_model(self):
        """Requests never answered may have been done."""
        for request in self.requests.values():
            for index in range(request.count):
                if request.versions:
                    block = request.first + index
                    self.legal[block] = tuple({
                        *self.legal.get(block, (0,)),
                        request.versions[index]})
        if self.arguments.model:
            with open(self.arguments.model, 'w', encoding='ascii') as file:
                json.dump({'version': self.version,
                           'seed': self.arguments.seed,
                           'legal': self.legal}, file)

    def content(self, block, version):
        if version == 0:
            return ZEROS
        return struct.pack('<QQQQ', 0x57656674, self.arguments.seed, block,
                           version) * (BLOCK // 32)

    def describe(self, data):
        if data == ZEROS:
            return 'zeros'
        magic, seed, block, version = struct.unpack_from('<QQQQ', data)
        if magic == 0x57656674:
            whole = data == struct.pack('<QQQQ', magic, seed, block,
                                        version) * (BLOCK // 32)
            return f'version {version} of block {block}, seed {seed}' + \
                ('' if whole else ', torn')
        return f'foreign bytes {data[:16].hex()}'

    def check(self, request, data):
        for index in range(request.count):
            block = request.first + index
            part = data[index * BLOCK:(index + 1) * BLOCK]
            legal = self.legal.get(block, (0,))
            for version in legal:
                if part == self.content(block, version):
                    # From now on nothing else is.
                    self.legal[block] = (version,)
                    break
            else:
                self.mismatches.append(
                    f'block {block}: legal {list(legal)}, found '
                    f'{self.describe(part)}, at {time.monotonic():.3f}')

    # ---- Requests ----

    def choose(self):
        """A request whose blocks no other is using; None if luck fails."""
        dice = self.rng.random()
        if dice < 0.02:
            return Request(FLUSH, 0, 0, 0, (), time.monotonic())
        count = min(self.rng.choice((1, 1, 1, 2, 4, 8, 16)), self.blocks)
        first = self.first + self.rng.randrange(self.blocks - count + 1)
        blocks = range(first, first + count)
        if any(block in self.busy for block in blocks):
            return None
        if dice < 0.35:
            return Request(READ, 0, first, count, (), time.monotonic())
        if dice < 0.38:
            return Request(TRIM, 0, first, count, (0,) * count,
                           time.monotonic())
        if dice < 0.41:
            return Request(ZERO, 0, first, count, (0,) * count,
                           time.monotonic())
        versions = []
        for _ in blocks:
            self.version += 1
            versions.append(self.version)
        flags = FLAG_FUA if self.rng.random() < 0.05 else 0
        return Request(WRITE, flags, first, count, tuple(versions),
                       time.monotonic())

    def start(self, request):
        self.handle += 1
        self.requests[self.handle] = request
        self.busy.update(range(request.first, request.first + request.count))
        self.send(self.handle, request)

    def send(self, handle, request):
        data = b''
        if request.kind == WRITE:
            data = b''.join(
                self.content(request.first + index, request.versions[index])
                for index in range(request.count))
        self.connection.send(request.flags, request.kind, handle,
                             request.first * BLOCK, request.count * BLOCK,
                             data)

    def length_of(self, handle):
        request = self.requests.get(handle)
        if request is None:
            raise Dropped(f'a reply to handle {handle}, which nobody asked')
        return request.count * BLOCK if request.kind == READ else 0

    def settle(self, handle, error, data):
        request = self.requests.pop(handle)
        now = time.monotonic()
        blocks = range(request.first, request.first + request.count)
        self.busy.difference_update(blocks)
        self.done[NAMES[request.kind]] += 1
        self.longest = max(self.longest, now - request.begun)
        if now - request.begun > STALL_S:
            self.stalls.append((round(request.begun, 3),
                                round(now - request.begun, 3)))
        if error:
            if error == errno.ENOSPC and self.arguments.hold_errors:
                self.no_space += 1
            else:
                self.errors.append(
                    f'{NAMES[request.kind]} of {request.count} blocks at '
                    f'{request.first}: '
                    f'{errno.errorcode.get(error, error)}, at {now:.3f}')
            if request.versions:
                for index, block in enumerate(blocks):
                    self.legal[block] = tuple({
                        *self.legal.get(block, (0,)),
                        request.versions[index]})
        elif request.kind == READ:
            self.check(request, data)
        else:
            for index, block in enumerate(blocks):
                self.legal[block] = (request.versions[index],)

    # ---- Connection ----

    def connect(self):
        """Connects, until it works, and sends again what is not answered."""
        end = time.monotonic() + self.arguments.patience
        while True:
            try:
                self.connection = Connection(self.arguments.uri, 5)
                break
            except (OSError, Dropped) as error:
                self.refused_connections[str(error)[:120]] += 1
                if time.monotonic() > end:
                    raise SystemExit(
                        f'cannot connect for {self.arguments.patience} s: '
                        f'{error}') from None
                if self.arguments.abandon and self.must_end():
                    raise Abandoned from None
            time.sleep(0.02)
        if self.blocks == 0:
            size = self.arguments.size or \
                self.connection.size - self.arguments.offset
            self.blocks = size // BLOCK
        for handle, request in self.requests.items():
            self.send(handle, request)

    def work(self, seconds):
        """Moves things; connects again when it must."""
        try:
            self.connection.work(seconds)
            for handle, error, data in self.connection.replies(self.length_of):
                self.settle(handle, error, data)
        except Dropped:
            self.connection.socket.close()
            self.reconnects += 1
            self.connect()

    @staticmethod
    def must_end():
        return bool(select.select([sys.stdin], [], [], 0)[0])

    def say(self):
        print(json.dumps({'done': sum(self.done.values()),
                          'in_flight': len(self.requests),
                          'longest_s': round(self.longest, 3),
                          'mismatches': len(self.mismatches),
                          'no_space': self.no_space,
                          'errors': len(self.errors)}), flush=True)

    def run(self):
        said = 0.0
        while not self.must_end():
            for _ in range(self.arguments.depth):
                if len(self.requests) >= self.arguments.depth:
                    break
                request = self.choose()
                if request is not None:
                    self.start(request)
            self.work(0.05)
            if time.monotonic() > said + 0.1:
                said = time.monotonic()
                self.say()
        if self.arguments.abandon:
            raise Abandoned
        end = time.monotonic() + self.arguments.patience
        while self.requests:
            self.work(0.05)
            if time.monotonic() > end:
                raise SystemExit(f'{len(self.requests)} requests are not '
                                 'answered')

    def verify(self):
        """Reads everything."""
        block, end, step = self.first, self.first + self.blocks, 64
        while block < end or self.requests:
            if block < end and len(self.requests) < 4:
                count = min(step, end - block)
                self.start(Request(READ, 0, block, count, (),
                                   time.monotonic()))
                block += count
                continue
            self.work(0.05)

    def report(self):
        print(json.dumps({
            'operations': dict(self.done),
            'reconnects': self.reconnects,
            'longest_s': round(self.longest, 3),
            'stalls': self.stalls[-1000:],
            'no_space': self.no_space,
            'refused_connections': dict(self.refused_connections),
            'unanswered': len(self.requests),
            'error_count': len(self.errors),
            'errors': self.errors[:20],
            'mismatch_count': len(self.mismatches),
            'mismatches': self.mismatches[:20]}), flush=True)
        return 0 if not self.errors and not self.mismatches else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--uri', required=True)
    parser.add_argument('--offset', type=int, default=0)
    parser.add_argument('--size', type=int, default=0)
    parser.add_argument('--depth', type=int, default=8)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--model')
    parser.add_argument('--verify-only', action='store_true')
    parser.add_argument('--abandon', action='store_true',
                        help='end without an answer to what is in flight')
    parser.add_argument('--hold-errors', action='store_true')
    parser.add_argument('--patience', type=float, default=60)
    arguments = parser.parse_args()
    load = Load(arguments)
    try:
        load.connect()
        if not arguments.verify_only:
            load.run()
        load.verify()
    except Abandoned:
        pass
    load.save_model()
    sys.exit(load.report())


if __name__ == '__main__':
    main()
