# calib on NVIDIA's TensorRT image:
#   docker build --build-arg TAG=25.10 -t calib .
#   docker run --gpus all -v "$PWD:/work" calib run configs/mine.yaml
ARG TAG=25.10
FROM nvcr.io/nvidia/tensorrt:${TAG}-py3

COPY pyproject.toml README.md LICENSE run.py /opt/calib/
COPY calib /opt/calib/calib
COPY data_loaders /opt/calib/data_loaders
# The image brings TensorRT; calib must not replace it.
RUN python3 -m pip install --no-cache-dir "/opt/calib[datasets,gpu]" \
    && useradd --create-home calib

USER calib
WORKDIR /work
HEALTHCHECK CMD calib doctor || exit 1
ENTRYPOINT ["calib"]
CMD ["doctor"]
