"""A certificate authority of our own and a server certificate signed by it, made with the openssl command."""

import subprocess

NAMES = ("localhost", "mail.example.test")


def _openssl(dir, *argv):
    done = subprocess.run(["openssl", *argv], cwd=dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {argv[0]} failed:\n{done.stdout}")


def make(dir, names=NAMES, days=2):
    """Writes ca.pem, server.pem and server.key into `dir`; the certificate is good for `names` and 127.0.0.1."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl(dir, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", str(days), "-subj",
             "/CN=pgmqd test authority", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
    _openssl(dir, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={names[0]}")
    (dir / "server.ext").write_text(
        "subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + ",IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    _openssl(dir, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days",
             str(days), "-extfile", "server.ext", "-out", "server.pem")
