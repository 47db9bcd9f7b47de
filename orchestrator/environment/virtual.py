"""Virtual packages (`__glibc`, `__cuda`, ...) that an environment is solved for. Runs in the worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError


def solved_for(platform: str, host: Sequence[str] | None, *, cuda: str | None) -> tuple[str, ...]:
    """The virtual packages to solve for, as sorted `name=version=build`.

    `host` are those of this machine, None when the platform is another one: then conda-lock's own table counts,
    without the `__cuda` that it supposes everywhere. `cuda` is the version of CUDA to solve for, whatever is here.
    """
    found = _by_name(host) if host is not None else _supposed(platform)
    if cuda is not None:
        found["__cuda"] = f"__cuda={cuda}=0"
    return tuple(sorted(found.values()))


def supposed(
    platform: str, given: Mapping[str, str], *, cuda: str | None, table: Mapping[str, Mapping[str, str]] | None
) -> tuple[str, ...]:
    """The virtual packages of any machine of a platform, whichever this one is, as sorted `name=version=build`.

    `given` are versions by name, which hold over the `table` (see `supposed_table`; None: conda-lock's own, without
    `__cuda`). `cuda` is a version of CUDA, for the platforms that can have one.
    """
    if table is None:
        found = _supposed(platform)
    else:
        found = {name: _text(name, text) for name, text in table.get(platform, {}).items()}
    if cuda is not None and not platform.startswith("osx-"):
        found["__cuda"] = f"__cuda={cuda}=0"
    return tuple(sorted((found | {name: _text(name, text) for name, text in given.items()}).values()))


def unmet_notes(packages: Iterable[LockedPackage], host: Sequence[str]) -> list[str]:
    """Which virtual packages the locked packages need and this machine (`host`) lacks, as a sentence for each."""
    import rattler

    there = {}
    for text in host:
        name, version, build = text.split("=", 2)
        there[name] = rattler.PackageRecord(name, version, rattler.BuildString(build), 0, "noarch")
    needs: dict[str, list[str]] = {}
    for package in packages:
        for spec in package.depends if package.manager == "conda" else ():
            name = spec.split()[0]
            if name.startswith("__") and (
                name not in there or not rattler.MatchSpec(spec, strict=False).matches(there[name])
            ):
                needs.setdefault(spec, []).append(package.name)
    return [_unmet(spec, names, there.get(spec.split()[0])) for spec, names in needs.items()]


def _unmet(spec: str, names: Sequence[str], record: Any) -> str:
    has = f"this machine has {spec.split()[0]} {record.version}" if record is not None else "this machine has none"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} of the environment needs {spec}, and {has}: the program may not start here."


def _by_name(texts: Sequence[str]) -> dict[str, str]:
    return {text.partition("=")[0]: text for text in texts}


def _supposed(platform: str) -> dict[str, str]:
    table = supposed_table()
    if platform not in table:
        raise OrchError(f"conda-lock knows no platform {platform!r}; it knows {', '.join(sorted(table))}.")
    return {name: _text(name, text) for name, text in table[platform].items() if name != "__cuda"}


def _text(name: str, value: str) -> str:
    version, _, build = str(value).partition(" ")
    return f"{name}={version}={build or '0'}"


def supposed_table() -> Mapping[str, Mapping[str, str]]:
    """conda-lock's own table: for each platform its virtual packages, each as `version` or `version build`."""
    from importlib.resources import files

    path = files("conda_lock") / "default-virtual-packages.yaml"
    return read_table(path.name, path.read_bytes())


def read_table(path: str, data: bytes) -> Mapping[str, Mapping[str, str]]:
    """The table in a file of conda-lock's form for virtual packages. Raises OrchError when it has another form."""
    import yaml

    try:
        subdirs = yaml.safe_load(data)["subdirs"]
        return {platform: dict(facts["packages"]) for platform, facts in subdirs.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise OrchError(
            f"{path} does not list virtual packages as conda-lock has them (subdirs, PLATFORM, packages): {error}."
        ) from error
