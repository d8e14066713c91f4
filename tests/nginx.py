"""nginx, as a peer: where it is, and how it is started without any file of the system's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from string import Template

ONE_PROCESS = "master_process off;"
"""So that the process that is started is the one that serves. Cannot inherit sockets."""

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

_CONFIGURATION = Template("""\
daemon off;
worker_processes 1;
$more
pid $folder/nginx.pid;
error_log $folder/error.log;
$user
events { worker_connections $connections; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
$http
}
""")


def nginx_command(folder: Path, http: str, more: str = "", connections: int = 1024) -> list[str]:
    """The command for an nginx with one worker, all of whose files are in `folder`.

    `http` is what it is told of its servers, `more` what it is told of itself; `connections` are
    those that its worker may have, listening ones and those to upstreams included.
    """
    assert NGINX is not None
    user = "user root;" if os.geteuid() == 0 else ""
    path = folder / "nginx.conf"
    names = {"folder": folder, "user": user, "http": http, "more": more, "connections": connections}
    path.write_text(_CONFIGURATION.substitute(names))
    return [NGINX, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(path)]
