#!/usr/bin/python3
"""check_containers.py: Dockerfile and compose.yaml against quickstart's packages, README's steps, and the program's own check of settings; what
the .rpm specification and debian/control build with against configure.ac and quickstart.

Takes the program from $PGMQD (else in $TOP_BUILDDIR) and the sources from $TOP_SRCDIR.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

top = os.environ.get("TOP_SRCDIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.environ.get("TOP_BUILDDIR") or os.path.join(top, "build")
wrong = []


def read(name):
    with open(os.path.join(top, name), encoding="utf-8") as f:
        return f.read()


def stages(text):
    """{name or number: [(instruction, its text)]} of a Dockerfile."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M))
    found, name = {}, None
    for line in filter(None, map(str.strip, lines.splitlines())):
        word, _, rest = line.partition(" ")
        if word not in {"FROM", "RUN", "COPY", "WORKDIR", "USER", "CMD", "ENTRYPOINT", "STOPSIGNAL", "HEALTHCHECK"}:
            wrong.append(f"Dockerfile: what is {word}?")
        if word == "FROM":
            name = rest.partition(" AS ")[2] or len(found)
            found[name] = []
        found[name].append((word, rest))
    return found


def installed(stage):
    """What apt-get installs in a stage."""
    words = shlex.split(" && ".join(rest for word, rest in stage if word == "RUN"))
    names = set()
    for i, word in enumerate(words):
        if word == "install" and words[i - 1] == "apt-get":
            for name in words[i + 1:]:
                if name == "&&":
                    break
                if not name.startswith("-"):
                    names.add(name)
    return names


def packages(name):
    """A list of quickstart's."""
    return {line.split()[0] for line in re.search(rf"^{name}='\n(.*?)^'", read("quickstart"), re.S | re.M)[1].splitlines()}


docker = stages(read("Dockerfile"))
have, want = installed(docker["build"]), packages("BUILD_PACKAGES")
if have != want:
    wrong.append(f"Dockerfile: the stage build installs {sorted(have - want)} too much and lacks {sorted(want - have)}, compared with quickstart")
if not installed(docker["mail"]) <= packages("DEMO_PACKAGES"):
    wrong.append("Dockerfile: the stage mail installs what quickstart does not")
steps = " ".join(rest for word, rest in docker["build"] if word == "RUN")
for step in re.search(r"^## Install\n\n```sh\n(.*?)```", read("README.md"), re.S | re.M)[1].splitlines():
    if step.replace("sudo ", "") not in steps:
        wrong.append(f"Dockerfile: README.md's step is missing: {step}")

# the packages of distributions: each library that configure.ac asks for; compilers and the autotools come with them
modules = set(re.sub(r">= [\d.]+", "", " ".join(re.findall(r"PKG_CHECK_MODULES\(\[\w+\], \[([^]]*)\]", read("configure.ac")))).split())
named = set(re.findall(r"^BuildRequires: *pkgconfig\((.*)\)$", read("packaging/pgmqd.spec"), re.M))
if not modules or modules != named:
    wrong.append(f"packaging/pgmqd.spec: it needs {sorted(named - modules)} too much and lacks {sorted(modules - named)}, compared with configure.ac")
if os.path.exists(os.path.join(top, "debian/control")):  # not in the tarball
    named = set(re.findall(r"^ (lib[\w.+-]+-dev)\b", re.search(r"^Build-Depends:\n(.*?)^\S", read("debian/control"), re.S | re.M)[1], re.M))
    needed = {name for name in packages("BUILD_PACKAGES") if name.startswith("lib") and name.endswith("-dev")} - {"libc6-dev"} | {"libcmocka-dev"}
    if named != needed:
        wrong.append(f"debian/control: it needs {sorted(named - needed)} too much and lacks {sorted(needed - named)}, compared with quickstart")

# one place for the version: configure.ac
version = re.search(r"^AC_INIT\(\[pgmqd\], \[([^]]*)\]", read("configure.ac"), re.M)[1]
for name, pattern in {"NEWS.md": r"^## (\S+)", "packaging/pgmqd.spec": r"^Version: *(\S+)", "packaging/alpine/APKBUILD": r"^pkgver=(\S+)",
                      "packaging/arch/PKGBUILD": r"^pkgver=(\S+)", "packaging/nix/default.nix": r'version = "([^"]*)"',
                      "debian/changelog": r"^pgmqd \(([^)]*)-[^-)]*\)"}.items():
    if not os.path.exists(os.path.join(top, name)) and name.startswith("debian/"):
        continue  # not in the tarball
    if (found := re.search(pattern, read(name), re.M)) is None or found[1] != version:
        wrong.append(f"{name}: its version is {found and found[1]}, and configure.ac's is {version}")

compose = read("compose.yaml")
try:
    import yaml
except ImportError:
    print("compose.yaml is not parsed: python3-yaml is not installed")
else:
    services = yaml.safe_load(compose)["services"]
    if set(services) != {"db", "mail", "migrate", "pgmqd"}:
        wrong.append(f"compose.yaml: services {sorted(services)}")
    # as the demo of quickstart does it, and with compose.conf's leave to go without TLS
    command = services["migrate"]["command"]
    if command[:1] != ["migrate"] or set(command) & set(re.findall(r'"(--[a-z-]+)"', re.search(r"rig\.migrate\(.*", read("tests/demo.py"))[0])) != {"--demo-app"}:
        wrong.append("compose.yaml: migrate is not called as tests/demo.py calls it")
    if re.search(r"user=(postgres\b|$)|^(?!.*user=)", command[-1]):
        wrong.append("compose.yaml: migrate runs as a superuser")
    for name, service in services.items():
        if "ports" in service:
            wrong.append(f"compose.yaml: {name}: a port is published, but packaging/compose.conf does without TLS")
        target = service.get("build", {}) if isinstance(service.get("build"), dict) else {}
        if target.get("target", "build") not in docker:
            wrong.append(f"compose.yaml: {name}: the Dockerfile has no stage {target['target']}")
        for other in service.get("depends_on", {}):
            if other not in services:
                wrong.append(f"compose.yaml: {name}: there is no service {other}")

# the settings are good; a plugin that was not built is left out, and the directory of reports is one that is here
with tempfile.TemporaryDirectory() as tmp:
    text = read("packaging/compose.conf").replace("/var/lib/pgmqd", tmp)
    text = text.replace("[pgmqd]\n", f"[pgmqd]\nplugin_dir = {build}/plugins/.libs\ntemplate_dir = {top}/templates\n")
    for name in ("email", "report"):
        if not os.path.exists(f"{build}/plugins/.libs/pgmqd-{name}-plugin.so"):
            text = re.sub(rf"\[queue \w+\]\nplugin = {name}\n(?:\w.*\n)*", "", text)
    path = os.path.join(tmp, "pgmqd.conf")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
    program = os.environ.get("PGMQD") or os.path.join(build, "pgmqd")
    done = subprocess.run([program, "run", "--check", "--config", path], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
    if done.returncode:
        wrong.append(f"packaging/compose.conf: {done.stdout}{done.stderr}")
if shutil.which("docker") and os.environ.get("PGMQD_DOCKER"):
    done = subprocess.run(["docker", "compose", "-f", os.path.join(top, "compose.yaml"), "config", "-q"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        wrong.append(f"docker compose config: {done.stderr}")
for text in wrong:
    print(text)
print("containers and packages " + ("differ" if wrong else "are as quickstart, configure.ac and README say"))
sys.exit(1 if wrong else 0)
