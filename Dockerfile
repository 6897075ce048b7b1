# calib on CPUs. docs/containers.md says how to build, run and mount; what was not run, too.
#   docker build -t calib:cpu --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" calib:cpu run configs/mine.yaml
# For a build that nobody can change from outside, give the digest, too:
#   --build-arg PYTHON=3.11.14-slim-trixie@sha256:…
ARG PYTHON=3.11.14-slim-trixie

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY calib calib
COPY data_loaders data_loaders
RUN python -m venv /opt/calib \
    && /opt/calib/bin/python -m pip install --no-cache-dir ".[datasets,evidence]" \
    && /opt/calib/bin/python -m pip check

FROM python:${PYTHON}
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="calib" \
      org.opencontainers.image.description="INT8 calibration and accuracy validation, on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/calib /opt/calib
# The only places that are written to besides /tmp. The cache may be left out; then more is
# computed anew. Its modes let any user in, since clusters choose the user themselves.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache calib \
    && install -d -o calib -g calib -m 0775 /work \
    && install -d -o calib -g calib -m 1777 /cache
ENV PATH=/opt/calib/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    MPLCONFIGDIR=/cache/matplotlib \
    NUMBA_CACHE_DIR=/cache/numba \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
HEALTHCHECK --interval=5m --timeout=60s --start-period=30s CMD ["calib", "doctor", "--health"]
# In this form calib is the first process and gets Ctrl-C and SIGTERM itself.
ENTRYPOINT ["calib"]
CMD ["doctor"]
