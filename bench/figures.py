# SPDX-License-Identifier: MIT
"""Figures of a benchmark: values by rounds, as a table and as JSON lines.

Machines drift by a quarter within minutes, so what is compared is measured in
turn within each round, and a ratio is the median of the rounds' ratios.
"""

import json
import os
import platform
import statistics


def conditions(**more):
    """The circumstances that a number means nothing without."""
    said = {
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    said.update(more)
    return said


class Figures:
    def __init__(self):
        self.values = {}
        self.about = {}

    def add(self, name, value, unit, peer=None, peer_value=None, reach=None):
        """One round's value; `reach` is ("<=" or ">=", floor)."""
        self.about[name] = (unit, peer, reach)
        self.values.setdefault(name, []).append((value, peer_value))

    def median(self, name):
        return statistics.median(v for v, _ in self.values[name])

    def missed(self, name):
        _, _, reach = self.about[name]
        if reach is None:
            return False
        value = self.median(name)
        return value > reach[1] if reach[0] == "<=" else value < reach[1]

    def peer(self, name):
        _, peer, _ = self.about[name]
        values = [p for _, p in self.values[name] if p is not None]
        if not values:
            return None
        return {"name": peer, "value": rounded(statistics.median(values))}

    def json_lines(self, said):
        for name in self.values:
            values = [v for v, _ in self.values[name]]
            unit, _, reach = self.about[name]
            yield json.dumps({
                "name": name,
                "value": rounded(statistics.median(values)),
                "unit": unit,
                "min": rounded(min(values)),
                "max": rounded(max(values)),
                "rounds": len(values),
                "reach": " ".join(map(str, reach)) if reach else None,
                "peer": self.peer(name),
                "conditions": said,
            })

    def table(self):
        rows = [("figure", "median (min .. max)", "unit", "peer", "reach")]
        for name in self.values:
            values = [v for v, _ in self.values[name]]
            unit, _, reach = self.about[name]
            peer = self.peer(name)
            rows.append((
                name,
                f"{short(statistics.median(values))} "
                f"({short(min(values))} .. {short(max(values))})",
                unit,
                f"{short(peer['value'])} {peer['name']}" if peer else "",
                f"{reach[0]} {short(reach[1])}"
                f"{'  MISSED' if self.missed(name) else ''}" if reach else "",
            ))
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        for r in rows:
            yield "  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip()

    def publish(self, said, path):
        """Prints the table; the JSON lines go to `path`."""
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in self.json_lines(said))
        print("\n".join(self.table()))
        print("\n" + ", ".join(f"{k}: {v}" for k, v in said.items()))
        print(f"as JSON lines: {path}")


def rounded(value):
    return float(f"{value:.4g}")


def short(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
