# SPDX-License-Identifier: Apache-2.0
"""Runs fake_weft, and makes Python stubs out of proto/."""

import os
import shutil
import subprocess
import sys
import tempfile


class FakeWeft:
    """fake_weft as a child, on a unix socket and a TCP port."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix='weft-fake-')
        self.endpoint = f'unix:{self.folder}/s'
        self.process = subprocess.Popen(
            [os.environ['FAKE_WEFT'], self.endpoint, 'tcp:127.0.0.1:0',
             *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        word, self.port = self.process.stdout.readline().split()
        assert word == 'ready'
        self.tcp_endpoint = f'tcp:127.0.0.1:{self.port}'

    def stop(self):
        """Ends it; the requests that were not read before."""
        output, _ = self.process.communicate(timeout=60)
        shutil.rmtree(self.folder)
        assert self.process.returncode == 0, self.process.returncode
        return output.splitlines()


def make_stubs(folder):
    """Writes stubs for weft.v1, health and reflection, and makes them
    importable."""
    root = os.environ['SOURCE_ROOT']
    imports = [os.path.join(root, 'proto'),
               os.path.join(root, 'lib/rpc/proto'), '/usr/share/grpc-proto',
               '/usr/include']
    names = ['grpc/health/v1/health.proto',
             'grpc/reflection/v1alpha/reflection.proto',
             'google/rpc/status.proto', 'google/rpc/error_details.proto']
    weft = os.path.join(root, 'proto/weft/v1')
    names += ['weft/v1/' + name for name in sorted(os.listdir(weft))
              if name.endswith('.proto')]
    plugin = shutil.which('grpc_python_plugin')
    subprocess.run(
        ['protoc', f'--python_out={folder}', f'--grpc_out={folder}',
         f'--plugin=protoc-gen-grpc={plugin}']
        + ['-I' + path for path in imports] + names, check=True)
    # "grpc" and "google" are also packages of grpcio and protobuf: ours are
    # added to their paths rather than put in their place.
    sys.path.insert(0, folder)
    import google  # pylint: disable=import-outside-toplevel
    import grpc  # pylint: disable=import-outside-toplevel
    for package, name in ((grpc, 'grpc'), (google, 'google')):
        package.__path__.append(os.path.join(folder, name))
