FROM rust:1-slim-bookworm AS build
# librdkafka and SQLite are compiled from source; librdkafka's TLS and SCRAM are OpenSSL's.
RUN apt-get update && apt-get install -y --no-install-recommends g++ libssl-dev make pkg-config && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --features kafka-tls --bin holdfast && install -s target/release/holdfast /holdfast

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 && rm -rf /var/lib/apt/lists/*
# Numbers, for orchestrators that want to see that it is not root and whose files are.
RUN groupadd --system --gid 10001 holdfast && \
    useradd --system --uid 10001 --gid 10001 --create-home --home-dir /var/lib/holdfast holdfast
COPY --from=build /holdfast /usr/local/bin/holdfast
USER 10001:10001
WORKDIR /var/lib/holdfast
ENV HOLDFAST_LISTEN=0.0.0.0:8080
EXPOSE 8080
# The image has no HTTP client, but bash speaks TCP. It does not speak TLS: where that is on, this
# says only that somebody listens.
HEALTHCHECK --interval=2s --timeout=5s --start-period=30s --retries=15 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/${HOLDFAST_LISTEN##*:} && if [[ -n $HOLDFAST_TLS_CERT ]]; then exit 0; fi && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
ENTRYPOINT ["holdfast"]
# HOLDFAST_ROLES says which roles: all, where it is unset.
CMD ["serve"]
