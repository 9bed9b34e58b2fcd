# agiproxy's image: the one static program, and a wget for health checks.
#
#   docker build -t agiproxy .
#   docker run -v /etc/agiproxy:/etc/agiproxy:ro -p 4577:4577 agiproxy
#
# It works with and without BuildKit.
FROM golang:1.26-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends busybox-static \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# GOPROXY is for those who have their own; empty is Go's default.
ARG GOPROXY
COPY go.mod go.sum ./
RUN go mod download
# What "agiproxy version" says; a release gives them (--build-arg VERSION=1.2.3).
ARG VERSION COMMIT DATE
COPY . .
# Nobody would see the compiler's cache again, so it isn't stored.
RUN CGO_ENABLED=0 go build -trimpath -o /agiproxy \
	-ldflags "-s -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$DATE" ./cmd/agiproxy \
 && go clean -cache

FROM scratch
# A health check has to run something inside the container. "agiproxy call" would
# do, but it is a session: it would count in the statistics, take a place on a
# backend, and fail when every backend is down, which restarting agiproxy does not
# cure. So wget asks the admin port's /-/healthy. Busybox under this name is wget
# alone: the image holds no shell.
COPY --from=build /bin/busybox /bin/wget
COPY --from=build /agiproxy /agiproxy
# Nobody in particular: no user owns anything here, and 4577 needs no privilege.
USER 65532:65532
EXPOSE 4577
# The admin port keeps to the container's loopback, as agiproxy demands of one
# without TLS and users.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
	CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9577/-/healthy"]
# The default, but it has to be said: without it some versions of Docker (20.10 is
# one) take a HUP for a stop, and don't restart the container when it crashes later.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/agiproxy"]
CMD ["serve", "--config", "/etc/agiproxy/agiproxy.yml"]
