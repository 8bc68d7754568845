FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG REVISION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o /wxproxy ./cmd/wxproxy
# What a final stage without a shell cannot make: its user, a folder for the store, and one for the
# bodies of large uploads.
RUN echo 'wxproxy:x:65532:65532:wxproxy:/var/lib/wxproxy:/sbin/nologin' >/passwd \
    && mkdir -p /root-fs/var/lib/wxproxy /root-fs/tmp \
    && chmod 1777 /root-fs/tmp

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wxproxy" \
      org.opencontainers.image.description="A gateway in front of api.weixin.qq.com that keeps each account within its call quotas" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /passwd /etc/passwd
COPY --from=build --chown=65532:65532 /root-fs/tmp /tmp
COPY --from=build --chown=65532:65532 /root-fs/var/lib/wxproxy /var/lib/wxproxy
COPY --from=build /wxproxy /wxproxy
USER 65532:65532
# wxproxy.yaml, limits.yaml and the embedded store wxproxy.db are looked for here.
WORKDIR /var/lib/wxproxy
VOLUME /var/lib/wxproxy
# 8080: calls. 8081: the admin listener, on 127.0.0.1 unless admin.listen says otherwise.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/wxproxy", "healthcheck"]
ENTRYPOINT ["/wxproxy"]
CMD ["serve", "--listen", "0.0.0.0:8080"]
