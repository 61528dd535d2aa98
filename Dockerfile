# Dockerfile: pgmqd in a container. The packages are those of ./quickstart, the steps those of README.md; tests/check_containers.py compares.
#   docker compose up            the demo: PostgreSQL, pgmqd, and a mail catcher that prints what it gets (compose.yaml)
#   docker build -t pgmqd .      the daemon alone; it needs no file: docker run -e DATABASE_URL=... -e SMTP_HOST=... pgmqd
#                                serves the queues that it knows. Settings of one's own go to /etc/pgmqd.conf.
# It is told to stop by SIGTERM, and finishes what it has in hand: give it drain_timeout and a little (docker stop -t 60).

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
    autoconf automake libtool gcc libc6-dev make pkg-config libpq-dev libevent-dev libcurl4-openssl-dev libcjson-dev \
    libinih-dev libgmime-3.0-dev libopendkim-dev libidn2-dev libglib2.0-dev libssl-dev libcairo2-dev libpango1.0-dev
COPY . /src
WORKDIR /src
RUN ./autogen.sh && mkdir -p build && cd build && \
    ../configure --prefix=/usr --sysconfdir=/etc --with-systemdsystemunitdir=no && \
    make && make install DESTDIR=/out

# What catches the mails of the demo.
FROM debian:bookworm-slim AS mail
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-aiosmtpd && rm -rf /var/lib/apt/lists/*
USER nobody
CMD ["python3", "-u", "-m", "aiosmtpd", "-n", "-l", "0.0.0.0:1025", "-c", "aiosmtpd.handlers.Debugging", "stdout"]

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
    libpq5 libevent-core-2.1-7 libevent-extra-2.1-7 libcurl4 libcjson1 libinih1 libgmime-3.0-0 libopendkim11 libidn2-0 libglib2.0-0 libssl3 \
    libcairo2 libpangocairo-1.0-0 fonts-paratype ca-certificates && rm -rf /var/lib/apt/lists/* && \
    useradd --system --home-dir /var/lib/pgmqd --create-home pgmqd
COPY --from=build /out /
USER pgmqd
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/sbin/pgmqd"]
CMD ["run"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8089 && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
