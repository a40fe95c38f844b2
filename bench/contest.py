# SPDX-License-Identifier: MIT
"""Figures that several measure: ours and the peers', by rounds, as a table, as
JSON lines and as a table in Markdown.

Ours is a row named as the figure is, with the peer "". A peer's is named
FIGURE/PEER.  `ours_is` says how many times better ours is, the median of the
rounds' ratios: both were measured in turn within each round.
"""

import json
import statistics

from figures import rounded


def better(unit, ours, theirs):
    """How many times better ours is: more a second, less of anything else."""
    return ours / theirs if more_is_better(unit) else theirs / ours


def more_is_better(unit):
    return unit.endswith("/s") or unit.startswith("of ")


def reaches(unit, value, bound):
    return value >= bound if more_is_better(unit) else value <= bound


class Contest:
    def __init__(self, units, floors, moonshots):
        self.units = units
        self.floors = floors
        self.moonshots = moonshots
        self.values = {}  # figure: {who: {round: value}}
        self.lacking = {}  # who: why

    def add(self, figure, who, value, n):
        self.values.setdefault(figure, {}).setdefault(who, {})[n] = value

    def lacks(self, who, why):
        self.lacking.setdefault(who, why)

    def rows(self, said):
        for figure, unit in self.units.items():
            by = self.values.get(figure, {})
            ours = by.get("", {})
            for who in sorted(by, key=lambda w: (w != "", w)):
                values = by[who]
                row = {
                    "name": f"{figure}/{who}" if who else figure,
                    "value": rounded(statistics.median(values.values())),
                    "unit": unit,
                    "peer": who,
                    "min": rounded(min(values.values())),
                    "max": rounded(max(values.values())),
                    "rounds": len(values),
                }
                both = [better(unit, ours[n], values[n])
                        for n in values if n in ours]
                if who and both:
                    row["ours_is"] = rounded(statistics.median(both))
                if not who:
                    row["floor"] = self.floors.get(figure)
                    row["moonshot"] = self.moonshots.get(figure)
                row["conditions"] = said
                yield row

    def publish(self, said, path):
        """Prints the table; the JSON lines go to `path`."""
        said = dict(said, lacking=self.lacking) if self.lacking else said
        rows = list(self.rows(said))
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
        print("\n".join(table(rows)))
        print("\n" + ", ".join(f"{k}: {v}" for k, v in said.items()
                               if k != "lacking"))
        for who, why in self.lacking.items():
            print(f"no {who}: {why}")
        print(f"as JSON lines: {path}")


def number(value):
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(row):
    if row["min"] == row["max"]:
        return number(row["value"])
    return (f"{number(row['value'])} "
            f"({number(row['min'])} .. {number(row['max'])})")


def judged(row):
    """What it is to reach, and whether it does."""
    sign = ">=" if more_is_better(row["unit"]) else "<="
    words = []
    for what in ("floor", "moonshot"):
        bound = row.get(what)
        if bound is None:
            continue
        here = reaches(row["unit"], row["value"], bound)
        words.append((what, f"{sign} {number(bound)}", here))
    return words


def table(rows):
    lines = [("figure", "who", "median (min .. max)", "unit", "keel better",
              "floor", "moonshot")]
    for row in rows:
        bounds = {what: text if here else
                  f"{text} {'MISSED' if what == 'floor' else 'short'}"
                  for what, text, here in judged(row)}
        lines.append((
            "" if row["peer"] else row["name"],
            row["peer"] or "keel",
            spread(row),
            row["unit"],
            f"{number(row['ours_is'])} x" if "ours_is" in row else "",
            bounds.get("floor", ""),
            bounds.get("moonshot", ""),
        ))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip()


def markdown(rows):
    """A row for each of our figures, its peers in one cell."""
    peers = {}
    for row in rows:
        if row["peer"]:
            times = f" ({number(row['ours_is'])} x)" if "ours_is" in row else ""
            peers.setdefault(row["name"].split("/")[0], []).append(
                f"{row['peer']} {number(row['value'])}{times}")
    yield "| figure | keel: median (min .. max) | floor | moonshot | beside it |"
    yield "|---|---|---|---|---|"
    for row in rows:
        if row["peer"]:
            continue
        bounds = {what: text if here else
                  f"{text}: **{'MISSED' if what == 'floor' else 'short'}**"
                  for what, text, here in judged(row)}
        yield (f"| `{row['name']}` | {spread(row)} | {bounds.get('floor', '')} "
               f"| {bounds.get('moonshot', '')} "
               f"| {', '.join(peers.get(row['name'], []))} |")
