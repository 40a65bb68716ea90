# One image for every role: `dsdq verifier`, `dsdq gateway`, `dsdq batch worker`, `dsdq device`, and what operators run.
# Build arguments named PIP_* are pip's own settings: a mirror, or an index that has torch without CUDA.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What dsdq needs, by itself: while it is the same, torch is not fetched again.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /src
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py pyproject.toml torch gateway jobs otel >requirements.txt

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY constraints.txt ./
COPY --from=requirements /src/requirements.txt ./
RUN python -m venv --without-pip /opt/dsdq \
 && python -m pip --python /opt/dsdq/bin/python install -r requirements.txt

# Tests, headers and test programs of libraries, which nothing here opens: about 250 MB.
RUN cd /opt/dsdq/lib/python3*/site-packages \
 && rm -rf torch/test torch/include torch/share torch/bin/protoc* torch/lib/*.a numba/tests \
 && find numpy sympy networkx mpmath llvmlite tokenizers -type d -name tests -prune -exec rm -rf {} +

COPY pyproject.toml README.md LICENSE ./
COPY dsdq dsdq
COPY workers workers
COPY producers producers
RUN python -m pip --python /opt/dsdq/bin/python install --no-deps .

FROM ${PYTHON_IMAGE}
# A compiler, where a GPU's kernels are built as they are needed: see compose.gpu.yaml.
ARG DEBIAN_PACKAGES=""
RUN if [ -n "$DEBIAN_PACKAGES" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends $DEBIAN_PACKAGES && rm -rf /var/lib/apt/lists/*; \
    fi \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /cache --shell /usr/sbin/nologin dsdq \
 && install -d -o dsdq -g dsdq /cache
COPY --from=build /opt/dsdq /opt/dsdq
ENV PATH=/opt/dsdq/bin:$PATH PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface NUMBA_CACHE_DIR=/cache/numba TRITON_CACHE_DIR=/cache/triton
USER dsdq
WORKDIR /cache
ENTRYPOINT ["dsdq"]
