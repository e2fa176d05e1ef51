"""Rendering in child processes: what a template does there ends the child at worst.

A worker has at most three: one for everybody and one in reserve, so that a death costs others a few
milliseconds; and one for tenants whose templates have lately taken long. None is started before
something is to be rendered.
"""
