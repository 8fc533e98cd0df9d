"""The road network: nodes with coordinates, edges with metres, shortest ways, and where a truck is on one."""

import heapq
import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Node", "Roads", "Way", "degrees_text"]

E7 = 10_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """A junction, a gate or a place outside; WGS 84 degrees times ten million."""

    name: str
    latitude_e7: int
    longitude_e7: int


@dataclass(frozen=True, slots=True)
class Way:
    """A shortest way: its nodes, the metres from the start to each, and the heading of each stretch in degrees."""

    nodes: tuple[Node, ...]
    metres: tuple[int, ...]
    headings: tuple[int, ...]

    @property
    def length_m(self) -> int:
        return self.metres[-1]

    def at(self, metres: int) -> tuple[int, int, int]:
        """(latitude e7, longitude e7, heading) after so many metres."""
        if self.length_m == 0:
            return self.nodes[0].latitude_e7, self.nodes[0].longitude_e7, 0
        metres = min(max(metres, 0), self.length_m)
        i = min(bisect_right(self.metres, metres), len(self.nodes) - 1)
        a, b = self.nodes[i - 1], self.nodes[i]
        done, stretch = metres - self.metres[i - 1], self.metres[i] - self.metres[i - 1]
        return (
            a.latitude_e7 + (b.latitude_e7 - a.latitude_e7) * done // stretch,
            a.longitude_e7 + (b.longitude_e7 - a.longitude_e7) * done // stretch,
            self.headings[i - 1],
        )


def degrees_text(e7: int) -> str:
    """Seven decimals, as the families want them: ``39.4123456``."""
    return f"{e7 // E7}.{e7 % E7:07d}"


def straight_m(a: Node, b: Node) -> int:
    """Great-circle metres (haversine, mean earth radius 6,371,008.8 m), at least 1."""
    la, lb = math.radians(a.latitude_e7 / E7), math.radians(b.latitude_e7 / E7)
    dlat, dlon = lb - la, math.radians((b.longitude_e7 - a.longitude_e7) / E7)
    h = math.sin(dlat / 2) ** 2 + math.cos(la) * math.cos(lb) * math.sin(dlon / 2) ** 2
    return max(1, round(2 * 6_371_008.8 * math.asin(math.sqrt(h))))


def heading(a: Node, b: Node) -> int:
    """Whole degrees clockwise from north, 0 to 359."""
    east = (b.longitude_e7 - a.longitude_e7) * math.cos(math.radians(a.latitude_e7 / E7))
    return round(math.degrees(math.atan2(east, b.latitude_e7 - a.latitude_e7))) % 360


class Roads:
    """An undirected graph; ways are found once (Dijkstra) and kept."""

    WINDING_PERCENT = 125
    """Road metres per hundred straight metres."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._edges: dict[str, dict[str, int]] = {}
        self._ways: dict[tuple[str, str], Way] = {}

    def add(self, node: Node, *to: str) -> None:
        """A node, joined to nodes that are already there."""
        self.nodes[node.name] = node
        self._edges[node.name] = {}
        for other in to:
            metres = straight_m(node, self.nodes[other]) * self.WINDING_PERCENT // 100 + 1
            self._edges[node.name][other] = metres
            self._edges[other][node.name] = metres

    @property
    def edges(self) -> Mapping[str, Mapping[str, int]]:
        return self._edges

    def way(self, start: str, end: str) -> Way:
        """The shortest way.

        Raises:
            KeyError: no such node, or no way.
        """
        if (known := self._ways.get((start, end))) is not None:
            return known
        best = {start: 0}
        before: dict[str, str] = {}
        queue = [(0, start)]
        while queue:
            metres, name = heapq.heappop(queue)
            if name == end:
                break
            if metres > best[name]:
                continue
            for other, edge in self._edges[name].items():
                if metres + edge < best.get(other, 1 << 62):
                    best[other] = metres + edge
                    before[other] = name
                    heapq.heappush(queue, (metres + edge, other))
        names = [end]
        while names[-1] != start:
            names.append(before[names[-1]])
        names.reverse()
        nodes = tuple(self.nodes[n] for n in names)
        way = Way(nodes, tuple(best[n] for n in names), tuple(heading(a, b) for a, b in itertools.pairwise(nodes)))
        self._ways[start, end] = way
        return way
