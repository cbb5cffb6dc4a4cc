# The gateway in a container: no compiler, no shell habits, no root. The root file system may be read-only:
#   docker build -t gateway .
#   run="docker run --read-only --tmpfs /tmp -v gateway:/var/lib/gateway -v ./gateway.toml:/etc/gateway/gateway.toml:ro -e GATEWAY_PASSPHRASE"
#   $run --rm gateway init            # keystore and database, on the volume
#   $run --rm gateway wallet new
#   $run --detach --publish 127.0.0.1:8402:8402 --stop-timeout 45 gateway
# The configuration: data_dir = "/var/lib/gateway", [server] host = "0.0.0.0" and [keystore] passphrase = "env:GATEWAY_PASSPHRASE"
# (or a file's), given at run time and never at build time. The user 10001 must be able to read it: `gateway init` makes one that
# only its owner can, so `chown 10001 gateway.toml`. The operator's verbs run inside: docker exec … gateway tasks list.

FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/gateway
# As an environment variable, the pins also bind what pip installs to build a package.
COPY constraints.txt pyproject.toml README.md ./
COPY contracts contracts
COPY wallets wallets
COPY gateway gateway
COPY gateway_client gateway_client
COPY gateway_mcp gateway_mcp
# Without the extra `mcp`: an image that serves money does not need that web stack. `gateway mcp` runs where the agent is.
RUN PIP_CONSTRAINT=/src/constraints.txt /opt/gateway/bin/pip install . \
    && /opt/gateway/bin/pip uninstall --yes pip setuptools


FROM python:3.11-slim

RUN groupadd --system --gid 10001 gateway \
    && useradd --system --uid 10001 --gid gateway --home-dir /var/lib/gateway --no-create-home --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway --mode 0700 /var/lib/gateway \
    && install --directory /etc/gateway

COPY --from=build /opt/gateway /opt/gateway
# Byte code was compiled by the build; a read-only file system could not take more.
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_CONFIG=/etc/gateway/gateway.toml \
    GATEWAY_HEALTH_URL=http://127.0.0.1:8402/healthz

USER 10001:10001
WORKDIR /var/lib/gateway
VOLUME ["/var/lib/gateway"]
EXPOSE 8402

# The standard library alone: the question is asked every half minute, and importing the gateway costs a second each time.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['GATEWAY_HEALTH_URL'], timeout=4).close()"]

# SIGTERM drains; give it longer than [server] shutdown_timeout_s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["serve"]
