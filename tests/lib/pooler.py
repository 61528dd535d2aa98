"""pgbouncer in front of a database of a private cluster."""

import contextlib
import shutil
import subprocess
from pathlib import Path

from .lines import Lines
from .paths import make_temp_dir
from .pgcluster import free_port

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


@contextlib.contextmanager
def pooler(cluster, dbname, user="postgres", mode="transaction", size=4, through=None):
    """Yields the connection string of the pooled database; `size` is the number of its sessions on the server, which it reaches at the port
    `through` of a proxy, if there is one."""
    server = f"host=127.0.0.1 port={through}" if through else f"host={cluster.dir} port={cluster.port}"
    port, dir = free_port(), Path(make_temp_dir("pgmqd-pooler-"))
    (dir / "users.txt").write_text(f'"{user}" ""\n')
    ini = dir / "pgbouncer.ini"
    ini.write_text(f"[databases]\n{dbname} = {server} user={user}\n"
                   f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {dir}/users.txt\n"
                   f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\ndefault_pool_size = {size}\n")
    command = [PGBOUNCER, str(ini)]
    if cluster.user:  # it refuses to run as root, too
        subprocess.run(["chown", "-R", cluster.user.pw_name, str(dir)], check=True)
        command = ["setpriv", f"--reuid={cluster.user.pw_uid}", f"--regid={cluster.user.pw_gid}", "--clear-groups", *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = Lines(process.stderr)
    try:
        assert lines.wait(lambda line: "process up" in line, 20), lines.snapshot()
        yield f"host=127.0.0.1 port={port} dbname={dbname} user={user}"
    finally:
        process.kill()  # newer ones wait at SIGTERM until all clients have gone
        process.wait(20)
        lines.join()
        shutil.rmtree(dir, ignore_errors=True)
