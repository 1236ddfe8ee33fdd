"""The checks as nox sessions, each in an environment of its own: `nox -l` lists, `nox -s tests` runs one."""

from __future__ import annotations

import nox

PYTHONS = ["3.11", "3.12", "3.13"]

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "tests", "docs", "wheel"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite; arguments after `--` go to pytest."""
    session.install("-c", "constraints.txt", "-e", ".[test,rtl,cluster]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Run the linters, the type checker and the import rules."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs site strictly: a dead link or a missing page is an error."""
    session.install("-c", "constraints.txt", "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict")


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel away from the checkout, and run a model with it."""
    session.install("build")
    dist = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", dist)
    session.install("-c", "constraints.txt", "--find-links", dist, "tetrasim")
    session.chdir(dist)
    session.run("tetrasim", "run", "digits-tiny", "--on", "gpu/t4", "-o", "run", "--force")
