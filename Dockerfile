# An image for a CPU. Never built so far: no Docker was at hand; its commands were run in a new environment.
#   docker build -t vla --build-arg TORCH_INDEX=URL .
#   docker run --rm -v ~/Videos:/videos:ro -v vla-data:/data -v vla-models:/models vla search "a dog runs" /videos
# URL is the address that the selector on pytorch.org gives for "CPU". Without it, on x86-64, torch brings 3 GB of CUDA libraries.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY toolkit toolkit
COPY cli cli
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; fi
COPY --from=build /wheel /wheel
RUN pip install --no-cache-dir /wheel/*.whl && rm -r /wheel

# Volumes get the owner of these folders. A folder of the host must be writable by user 1000, or pass `--user`.
RUN useradd --uid 1000 --create-home vla && install -d -o vla -g vla /data /models
USER vla
# The workspace is .vla/ of this folder; weights are kept in /models.
WORKDIR /data
ENV HF_HOME=/models
RUN vla doctor --device cpu
VOLUME ["/data", "/models"]
# For long extractions and for containers that are kept: the command starts, so Python and the packages are intact.
HEALTHCHECK --interval=5m --timeout=30s --start-period=10s CMD ["vla", "--version"]
ENTRYPOINT ["vla"]
CMD ["--help"]
