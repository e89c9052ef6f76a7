# A stand-in for the official image of PostgreSQL where nothing can be pulled: the same variables, folder and user.
ARG BASE
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
COPY postgres.sh /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/data
RUN install -d -o postgres -g postgres "$PGDATA"
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
# hadolint ignore=DL3066
USER postgres
ENTRYPOINT ["sh", "/usr/local/bin/docker-entrypoint.sh"]
