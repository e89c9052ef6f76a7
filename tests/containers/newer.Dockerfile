# The same as an image of another version.
ARG BASE
FROM ${BASE}
