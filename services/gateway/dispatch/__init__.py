"""Sends requests to replicas and brings their answers back."""
