# A broker and the command line in an image without a shell or a package manager.
#
#   docker build -t highwater .
#   docker compose up
#
# BUILDER and RUNTIME can name other images: RUNTIME needs glibc of the builder's version or later, and nothing else. With
# PROFILE=release the build takes half the time and memory of `dist`.
ARG BUILDER=rust:1-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:latest

FROM ${BUILDER} AS build
ARG PROFILE=dist
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --profile "$PROFILE" --bin highwater-broker --bin highwater \
 && mkdir -p /image/usr/local/bin /image/var/lib/highwater \
 && cp "target/$PROFILE/highwater-broker" "target/$PROFILE/highwater" /image/usr/local/bin/

FROM ${RUNTIME}
COPY --from=build --chown=65532:65532 /image/var/lib/highwater /var/lib/highwater
COPY --from=build /image/usr/local/bin/ /usr/local/bin/
# No privileges are needed. The volume is this user's.
USER 65532:65532
ENV HIGHWATER_DATA_DIR=/var/lib/highwater
VOLUME /var/lib/highwater
EXPOSE 7410 7411 7412
# The broker ends in order on SIGTERM within server.shutdown_grace_ms; `docker stop` must wait at least that long.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s \
    CMD ["highwater", "cluster", "health"]
ENTRYPOINT ["highwater-broker"]
