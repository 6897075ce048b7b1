# calib on NVIDIA's TensorRT image. docs/containers.md says how to build and run; what was not run,
# too.
#   docker build -f docker/tensorrt.Dockerfile -t calib:tensorrt .
#   docker run --rm --gpus all -v "$PWD:/work" calib:tensorrt run configs/mine.yaml
# An engine runs only with the TensorRT that built it: take the tag of the server that will serve
# it, e.g. 25.10-py3 for tritonserver:25.10-py3. A digest may follow: 25.10-py3@sha256:…
ARG TAG=25.10-py3

FROM nvcr.io/nvidia/tensorrt:${TAG}
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="calib" \
      org.opencontainers.image.description="INT8 calibration and accuracy validation, on TensorRT" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY calib calib
COPY data_loaders data_loaders
# The image brings TensorRT and its Python package, and these must stay what they are: calib goes
# into an environment of its own that sees the image's packages, pip may not install another
# TensorRT (the constraints), and the build fails if what is imported afterwards is not the image's.
# Nothing of the image itself is touched, which Ubuntu's pip would refuse.
RUN python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "calib needs Python 3.11 or later: take a newer TAG")' \
    && version='import tensorrt; print(tensorrt.__version__, tensorrt.__file__)' \
    && before=$(python3 -c "$version") \
    && python3 -m pip list --format=freeze | { grep -i '^tensorrt' || true; } >/tmp/constraints.txt \
    && python3 -m venv --without-pip --system-site-packages /opt/calib \
    && python3 -m pip --python /opt/calib/bin/python install --no-cache-dir \
        --constraint /tmp/constraints.txt ".[datasets,evidence,gpu]" \
    && test "$before" = "$(/opt/calib/bin/python -c "$version")" \
    && rm /tmp/constraints.txt
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
ENTRYPOINT ["calib"]
CMD ["doctor"]
