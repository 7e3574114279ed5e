# The quick start and the demo page in a container, without root rights:
#   docker build -t mmzeg .                          for CPUs
#   docker build -t mmzeg --build-arg DEVICE=cuda .  for NVIDIA GPUs that torch 2.1 supports
# Commands that run it: docs/en/get_started.md#docker
FROM python:3.11-slim-bookworm AS base
# The libraries that opencv-python loads. Debian keeps one version of each per release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /mmzeg

FROM base AS build
# A compiler, for mmcv where OpenMMLab's prebuilt wheel is out of reach.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY . .
ARG DEVICE=cpu
# By default pip installs torch with CUDA. PyTorch's index for CPUs has the same version without, "2.1.2+cpu".
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$DEVICE" in \
        cpu) export NEEDED_GB=5 PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
        cuda) ;; \
        *) echo "DEVICE=$DEVICE: use cpu or cuda" >&2; exit 2 ;; \
    esac \
    && EXTRAS=page bash tools/setup_env.sh official /venv

FROM base
RUN useradd --uid 1000 --create-home mmzeg && install -d -o mmzeg -g mmzeg work_dirs
COPY --from=build /venv /venv
COPY --from=build /mmzeg /mmzeg
ENV PATH=/venv/bin:$PATH
USER 1000
EXPOSE 7860
CMD ["python", "tools/webapp.py", "zegformer_r18_world", "work_dirs/quickstart/iter_1000.pth", "--host", "0.0.0.0", "--port", "7860"]
