# The image of mailproxy: docker build -t genro-mail-proxy . && docker run -p 8000:8000 genro-mail-proxy
# The Python that the tests run with.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# Only what the service needs, each file known by its hash; so are the tools that build.
COPY requirements-build.lock requirements-image.lock ./
RUN python -m pip install --require-hashes -r requirements-build.lock \
 && python -m pip wheel --require-hashes --no-deps --no-build-isolation -w /wheels -r requirements-image.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY mailproxy mailproxy
COPY twisted twisted
# Compiled, and with Twisted's list of plugins: nothing of it is written at run time.
RUN python -m pip wheel --no-index --no-deps --no-build-isolation -w /wheels . \
 && python -m venv --without-pip /opt/mailproxy \
 && python -m pip --python /opt/mailproxy/bin/python install --no-deps --no-index /wheels/*.whl \
 && /opt/mailproxy/bin/python -m compileall -q /opt/mailproxy/lib \
 && /opt/mailproxy/bin/twistd --help > /dev/null \
 && /opt/mailproxy/bin/mailproxy --version

FROM python:${PYTHON}
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="mailproxy" \
      org.opencontainers.image.description="Mail relay: HTTP and SMTP in, SMTP out, delivery reports back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 mailproxy \
 && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin mailproxy \
 && install -d -m 0700 -o 10001 -g 10001 /data
COPY --from=build /opt/mailproxy /opt/mailproxy
ENV PATH=/opt/mailproxy/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
# Also where large requests are put for as long as they last, if the root is read-only.
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["mailproxy", "healthcheck"]
# tini passes signals on and reaps orphans; an end by SIGTERM is a good one.
ENTRYPOINT ["tini", "-e", "143", "--", "mailproxy"]
CMD ["container"]
