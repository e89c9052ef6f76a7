"""Deferred work: jobs of many requests that are kept before they are acknowledged, and answered once each."""
