"""Writes what an image holds as an SPDX 2.3 document (https://spdx.github.io/spdx-spec/v2.3/): its binaries, and all that is linked
into each. The same image always gives the same bytes: no random identifier, and no time but SOURCE_DATE_EPOCH."""

import hashlib
import re

import oci
from parts import Part, Program

# Where scanners find it: they read every file of an image that ends like this.
PATH = "/sbom.spdx.json"


def document(image: oci.Image, license: str, programs: list[Program]) -> bytes:
    """The SBOM of an image, without a space that isn't needed, as it is a part of the image."""
    packages, relationships = {}, set()

    def relate(one: str, kind: str, other: str) -> None:
        relationships.add((one, kind, other))

    packages["SPDXRef-image"] = {
        "name": image.name.rpartition(":")[0].removeprefix("docker.io/"),
        "versionInfo": image.name.rpartition(":")[2],
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": license,
        "primaryPackagePurpose": "CONTAINER",
    }
    relate("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")
    for program in programs:
        own = _own_id(program)
        packages[own] = _package(program.root) | {
            "packageFileName": program.path,
            "checksums": [{"algorithm": "SHA256", "checksumValue": hashlib.sha256(program.file.read_bytes()).hexdigest()}],
            "primaryPackagePurpose": "APPLICATION",
        }
        relate("SPDXRef-image", "CONTAINS", own)
        ids = {key: _id(part) for key, part in program.parts.items()} | {program.root.key: own}
        for key, part in program.parts.items():
            packages[ids[key]] = _package(part)
        for one, other in program.needs:
            relate(ids[one], "DEPENDS_ON", ids[other])
    described = {
        "packages": [{"SPDXID": identifier} | package for identifier, package in sorted(packages.items())],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other} for one, kind, other in sorted(relationships)
        ],
    }
    title = f"{image.name.removeprefix('docker.io/')} linux/{image.architecture}"
    # A namespace is a document's own: two documents never share one, so it hangs on all that stands in it.
    unique = hashlib.sha256(oci.to_json(described) + title.encode() + image.created.encode()).hexdigest()
    return oci.to_json({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": title,
        "documentNamespace": f"https://spdx.org/spdxdocs/{re.sub('[^a-z0-9.]+', '-', title)}-{unique}",
        "creationInfo": {"created": image.created, "creators": ["Tool: keeper-injector-images"]},
    } | described)


def _package(part: Part) -> dict:
    package = {
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": part.download or "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": part.license,
    }
    if part.sha256:
        package["checksums"] = [{"algorithm": "SHA256", "checksumValue": part.sha256}]
    if part.purl:
        package["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}]
    if part.source:
        package["sourceInfo"] = part.source
    return package


def _own_id(program: Program) -> str:
    return f"SPDXRef-{_clean(program.path.lstrip('/'))}"


def _id(part: Part) -> str:
    return f"SPDXRef-{_clean(part.name)}-{_clean(part.version)}"


def _clean(text: str) -> str:
    """An SPDX identifier takes letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.]", "-", text)
