"""The pytest plugin: fixtures for an app's own migrations."""
