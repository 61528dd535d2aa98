"""Several servers in the connection string: the silent ones and the names that are not found do not hide the good one."""

import contextlib
import socket
import subprocess

import pytest

from lib.paths import make_temp_dir, sanitized

NULL = {"email_queue": {"plugin": "null"}}


@contextlib.contextmanager
def silent_server():
    """A port that takes connections and never says a word; yields its number."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as s:
        yield s.getsockname()[1]


def served(rig, timeout):
    """A message is delivered within that time from now on, by a daemon that has just started."""
    rig.daemon.wait_settled(msg_id=rig.enqueue({}), timeout=timeout)


def test_two_silent_servers_before_the_good_one(own_rig):
    with silent_server() as one, silent_server() as two:
        own_rig.login = (f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={one},{two},{own_rig.cluster.port} dbname={own_rig.dbname} user=pgmqd"
                         " target_session_attrs=read-write")
        own_rig.start(queues=NULL, ready=False)
        served(own_rig, 25)


def test_connect_timeout_is_of_seconds(own_rig):
    with silent_server() as one:
        own_rig.login = f"host=127.0.0.1 port={one} dbname={own_rig.dbname} user=pgmqd connect_timeout=2"
        own_rig.start(queues=NULL, ready=False)
        own_rig.daemon.wait_log("no connection within 2000 ms")


def test_socket_directory_and_address_in_one_list(own_rig):
    with silent_server() as one:
        own_rig.login = f"host=127.0.0.1,{own_rig.cluster.dir} port={one},{own_rig.cluster.port} dbname={own_rig.dbname} user=pgmqd"
        own_rig.start(queues=NULL, ready=False)
        served(own_rig, 25)


SLOW_RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	if (node && strcmp(node, "slow.example.test") == 0)
		for (;;)
			pause();
	return real(node && strcmp(node, "good.example.test") == 0 ? "127.0.0.1" : node, service, hints, res);
}
"""


@pytest.fixture(scope="module")
def slow_resolver():
    """A library in which the name slow.example.test is never found and good.example.test is this machine."""
    dir = make_temp_dir("pgmqd-resolver-")
    (dir / "slow.c").write_text(SLOW_RESOLVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", dir / "slow.so", dir / "slow.c"], check=True)
    return str(dir / "slow.so")


@pytest.mark.skipif(sanitized(), reason="the address sanitizer lets no library be loaded before it")
def test_a_resolver_that_hangs_holds_nobody_up(own_rig, slow_resolver):
    """The second name is tried, and no process misses its watchdog."""
    port = own_rig.cluster.port
    own_rig.login = f"host=slow.example.test,good.example.test port={port},{port} dbname={own_rig.dbname} user=pgmqd"
    own_rig.start(queues=NULL, ready=False, allow_insecure="yes", env={"LD_PRELOAD": slow_resolver})
    served(own_rig, 25)
    assert not [r for r in own_rig.daemon.records() if "killed" in r.get("text", "") or "watchdog" in r.get("text", "")]


def test_a_name_that_nobody_knows_is_named(own_rig):
    own_rig.login = f"host=nobody.invalid port={own_rig.cluster.port} dbname={own_rig.dbname} user=pgmqd"
    own_rig.start(queues=NULL, ready=False, allow_insecure="yes")
    own_rig.daemon.wait_log(lambda r: "nobody.invalid" in r.get("text", "") and r.get("process") == "worker")
