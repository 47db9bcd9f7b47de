"""The formats of one platform that conda and pip read: `@EXPLICIT`, environment.yml, requirements.txt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from orchestrator.environment.export.public import comment, is_on_index
from orchestrator.environment.lock import Lock, LockedPackage
from orchestrator.errors import OrchError


def explicit(lock: Lock, notes: Sequence[str]) -> str:
    """An `@EXPLICIT` file (CEP 23): each package's URL and sha256, what is needed before what needs it."""
    pip = [package for package in lock.packages if package.manager == "pip"]
    lines = ["# conda create --name NAME --file THIS", f"# platform: {lock.platform}", *map(comment, notes)]
    if pip:
        named = ", ".join(f"{package.name}=={package.version}" for package in pip)
        lines.append(
            comment(f"Not here, since this format has no pip packages: {named} (see the format requirements).")
        )
    lines.append("@EXPLICIT")
    conda = [package for package in lock.packages if package.manager == "conda"]
    # Without a prefix of 64 digits some readers take a hash for md5.
    lines += [f"{package.url}#sha256:{package.sha256}" for package in depends_first(conda)]
    return "\n".join([*lines, ""])


def depends_first(packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Conda packages so that each comes after those it needs, else by name."""
    by_name = {package.name: package for package in sorted(packages, key=lambda package: package.name)}
    needs = {name: sorted(needed(package) & by_name.keys() - {name}) for name, package in by_name.items()}
    # The few packages of real channels that need each other, as python and pip: whoever installs them does as well.
    if "pip" in needs.get("python", ()):
        needs["python"].remove("pip")
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        order = list(by_name)
    return [by_name[name] for name in order]


def needed(package: LockedPackage) -> set[str]:
    """The names of the packages that a conda package needs."""
    return {text.split()[0].partition("[")[0] for text in package.depends if text.strip()}


def environment(lock: Lock, *, name: str, no_builds: bool, from_history: bool) -> str:
    """An `environment.yml` as `conda env export` writes it, without `prefix`. Raises OrchError."""
    if from_history:
        if not lock.conda and not lock.pip:
            raise OrchError(
                f"the lock {lock.lock_id[:12]} does not know what was asked for, only what it holds: "
                "export it without --from-history."
            )
        conda, pip = list(lock.conda), list(lock.pip)
    else:
        conda = sorted(
            f"{package.name}={package.version}" + ("" if no_builds else f"={package.build}")
            for package in lock.packages
            if package.manager == "conda"
        )
        pip = sorted(
            _pip_line(package)
            for package in lock.packages
            if package.manager == "pip" and not package.url.startswith("pkg:")
        )
    kept = [] if from_history else _kept(lock.packages)
    dependencies: list[Any] = [*conda, *([{"pip": pip}] if pip else [])]
    table = {"name": name, "channels": channels_of([lock]), "dependencies": dependencies}
    return "".join(f"{comment(line)}\n" for line in [f"platform: {lock.platform}", *kept]) + _yaml(table)


def _pip_line(package: LockedPackage) -> str:
    if package.url.startswith("git+"):
        return f"{package.name} @ {package.url}"
    return f"{package.name}=={package.version}"


def _kept(packages: Iterable[LockedPackage]) -> list[str]:
    # Asked for by its name, an index could answer with a stranger's package.
    return [
        f"Not here: {package.name}=={package.version}, which was built from a project or came from a folder."
        for package in packages
        if package.manager == "pip" and package.url.startswith("pkg:")
    ]


def requirements(lock: Lock, notes: Sequence[str]) -> str:
    """The pip part as a requirements.txt with hashes, for `pip install --require-hashes --no-deps`."""
    pip = [package for package in lock.packages if package.manager == "pip"]
    python = next((f", python {p.version}" for p in lock.packages if (p.manager, p.name) == ("conda", "python")), "")
    lines = [f"# platform: {lock.platform}{python}", *map(comment, notes)]
    if not pip:
        lines.append("# The environment has no pip packages.")
    for package in sorted(pip, key=lambda package: package.name):
        if is_on_index(package):
            # Of what was built here, an index has the source.
            digest = package.source_sha256 or package.sha256
            lines.append(f"{package.name}=={package.version} --hash=sha256:{digest}")
        else:
            lines.append(comment(f"{package.name}=={package.version} is on no index: {package.url}"))
    return "\n".join([*lines, ""])


def channels_of(locks: Iterable[Lock]) -> list[str]:
    """The channels in their order: as they were asked for, else those that packages came from."""
    locks = list(locks)
    asked = [channel for lock in locks for channel in lock.channels]
    came_from = [package.channel for lock in locks for package in lock.packages if package.channel]
    return list(dict.fromkeys(asked or came_from))


def _yaml(table: object) -> str:
    import yaml

    class Indented(yaml.SafeDumper):
        # conda indents lists below their key.
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's form
            super().increase_indent(flow, False)

    return yaml.dump(table, Dumper=Indented, sort_keys=False, width=10_000, allow_unicode=True)
