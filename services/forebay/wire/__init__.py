"""Everything that knows gRPC and no service: conversion, errors, interceptors, channels and servers."""
