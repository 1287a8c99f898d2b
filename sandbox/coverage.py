"""What the sandbox emulates, and how each part of it is known: one table a vendor, rendered into docs/sandbox.md.

wire   captured from the vendor's published client or server   sdk   read in that client's source or fixtures
src    read in the vendor's own published server               doc   the vendor's public documentation
issue  a public issue thread of the vendor's projects          seed  the documents this project was asked from
guess  our own inference, to be corrected when somebody sees the real thing
"""

from sandbox.bluesight import coverage as coverage_bluesight
from sandbox.photogpt import coverage as coverage_photogpt
from sandbox.pictograph import coverage as coverage_pictograph
from sandbox.provenance import Behaviour, Route
from sandbox.replicate import coverage as coverage_replicate

VENDORS: dict[str, tuple[tuple[Route, ...], tuple[Behaviour, ...]]] = {
    "Pictograph": (coverage_pictograph.ROUTES, coverage_pictograph.BEHAVIOURS),
    "Replicate": (coverage_replicate.ROUTES, coverage_replicate.BEHAVIOURS),
    "Bluesight": (coverage_bluesight.ROUTES, coverage_bluesight.BEHAVIOURS),
    "PhotoGPT": (coverage_photogpt.ROUTES, coverage_photogpt.BEHAVIOURS),
}
ROUTES: tuple[Route, ...] = tuple(route for routes, _ in VENDORS.values() for route in routes)
BEHAVIOURS: tuple[Behaviour, ...] = tuple(row for _, rows in VENDORS.values() for row in rows)


def render() -> str:
    """Return the tables as Markdown."""
    return "\n\n".join(render_vendor(vendor) for vendor, (routes, _) in VENDORS.items() if routes)


def render_vendor(vendor: str) -> str:
    """Return one vendor's heading and two tables as Markdown."""
    routes, behaviours = VENDORS[vendor]
    if any(route.dialects for route in routes):
        lines = ["| call | dialects | known from | note |", "| --- | --- | --- | --- |"]
        lines += [f"| `{r.method} {r.path}` | {r.dialects} | {', '.join(r.known)} | {r.note} |" for r in routes]
    else:
        lines = ["| call | known from | note |", "| --- | --- | --- |"]
        lines += [f"| `{r.method} {r.path}` | {', '.join(r.known)} | {r.note} |" for r in routes]
    lines += ["", "| topic | behaviour | known from |", "| --- | --- | --- |"]
    lines += [f"| {b.topic} | {b.text} | {', '.join(b.known)} |" for b in behaviours]
    return "\n".join([f"### {vendor}", "", *lines])
