# SPDX-License-Identifier: Apache-2.0
"""Draws panels over a common time axis, with numbered events and their key, as SVG.

Light background; colours of Okabe and Ito, which people with any colour vision tell apart.
"""
import math
from xml.sax.saxutils import escape

BLUE, ORANGE, GREEN, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#999999"
INK, FAINT, GRID = "#1a1a1a", "#595959", "#e4e4e4"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
LEFT, RIGHT, WIDTH = 96, 36, 1280
GAP = 56            # between panels: the next one's title
BADGE = 11          # radius of an event's number
KEY_LINE = 24
KEY_COLUMNS = 2


def nice_step(top, steps):
    """The round step that divides 0..top into at most `steps` parts."""
    raw = max(top, 1e-9) / steps
    power = 10 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def number(value):
    return f"{value:.0f}" if value == int(value) else f"{value:g}"


class Panel:
    """One set of axes.  `series` holds (kind, colour, label, points); a point is (x, y).

    Kinds: "line"; "wide line", to be seen under a line that runs along it; "area", stacked on the
    areas before it, constant until the next point; "bars".
    """

    def __init__(self, title, unit, height, top=None):
        self.title, self.unit, self.height, self.top = title, unit, height, top
        self.series = []

    def add(self, kind, colour, label, points):
        self.series.append((kind, colour, label, points))
        return self

    def highest(self):
        if self.top:
            return self.top
        most = max((y for _, _, _, points in self.series for _, y in points), default=1)
        return max(most, 1e-9) * 1.15


class Chart:
    def __init__(self, title, subtitle, end):
        self.title, self.subtitle, self.end = title, subtitle, end
        self.panels, self.events, self.out = [], [], []

    def x(self, t):
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(t, 0), self.end) / self.end

    def text(self, x, y, what, size=14, colour=INK, anchor="start", weight="normal"):
        self.out.append(f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{colour}' "
                        f"text-anchor='{anchor}' font-weight='{weight}'>{escape(what)}</text>")

    def line(self, x1, y1, x2, y2, colour, width=1.0, dash=None):
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        self.out.append(f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' "
                        f"stroke='{colour}' stroke-width='{width}'{dashes}/>")

    def badges(self):
        """Where the events' numbers stand: near their line, never on one another."""
        room = 2 * BADGE + 3
        at = [self.x(t) for t, _ in self.events]
        for i in range(1, len(at)):
            at[i] = max(at[i], at[i - 1] + room)
        for i in range(len(at) - 1, -1, -1):
            most = WIDTH - RIGHT if i == len(at) - 1 else at[i + 1] - room
            at[i] = min(at[i], most)
        return at

    def draw_series(self, panel, y, top):
        floor = []  # heights of the areas drawn so far, by point
        for kind, colour, _, points in panel.series:
            if kind.endswith("line"):
                width = 5.5 if kind == "wide line" else 1.8
                path = " ".join(f"{self.x(t):.1f},{y(v):.1f}" for t, v in points)
                self.out.append(f"<polyline points='{path}' fill='none' stroke='{colour}' "
                                f"stroke-width='{width}' stroke-linejoin='round'/>")
            elif kind == "bars":
                for t, v in points:
                    self.out.append(f"<rect x='{self.x(t) - 2:.1f}' y='{y(min(v, top)):.1f}' "
                                    f"width='4' height='{y(0) - y(min(v, top)):.1f}' "
                                    f"fill='{colour}'/>")
            else:
                floor = floor or [0] * len(points)
                upper, lower = [], []
                for i, (t, v) in enumerate(points):
                    until = points[i + 1][0] if i + 1 < len(points) else self.end
                    for edge in (t, until):
                        upper.append(f"{self.x(edge):.1f},{y(floor[i] + v):.1f}")
                        lower.append(f"{self.x(edge):.1f},{y(floor[i]):.1f}")
                    floor[i] += v
                self.out.append(f"<polygon points='{' '.join(upper + lower[::-1])}' "
                                f"fill='{colour}'/>")

    def draw_panel(self, panel, top_y):
        highest, bottom = panel.highest(), top_y + panel.height

        def y(value):
            return bottom - panel.height * value / highest

        self.text(LEFT, top_y - 13, panel.title, 15, INK, weight="bold")
        x = WIDTH - RIGHT
        for _, colour, label, _ in reversed([s for s in panel.series if s[2]]):
            self.out.append(f"<rect x='{x - 14:.1f}' y='{top_y - 24:.1f}' width='14' height='12' "
                            f"rx='2' fill='{colour}'/>")
            self.text(x - 20, top_y - 13, label, 14, INK, "end")
            x -= 8.2 * len(label) + 42
        step = nice_step(highest, max(2, panel.height // 40))
        value = 0
        while value <= highest * 1.0001:
            self.line(LEFT, y(value), WIDTH - RIGHT, y(value), GRID)
            self.text(LEFT - 10, y(value) + 5, number(value), 13, FAINT, "end")
            value = round(value + step, 9)
        self.out.append(f"<text transform='translate({LEFT - 66},{top_y + panel.height / 2:.0f}) "
                        f"rotate(-90)' font-size='13' fill='{FAINT}' text-anchor='middle'>"
                        f"{escape(panel.unit)}</text>")
        self.draw_series(panel, y, highest)
        self.line(LEFT, bottom, WIDTH - RIGHT, bottom, INK, 1.2)
        return bottom

    def draw_time_axis(self, bottom):
        step = nice_step(self.end, 16)
        t = 0
        while t <= self.end * 1.0001:
            self.line(self.x(t), bottom, self.x(t), bottom + 5, INK)
            self.text(self.x(t), bottom + 21, number(t), 13, FAINT, "middle")
            t = round(t + step, 9)
        self.text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, "seconds", 13, FAINT, "middle")

    def draw_events(self, badge_y, bottoms):
        """Lines through the panels only: what is written between them stays readable."""
        for n, ((t, _), at) in enumerate(zip(self.events, self.badges()), 1):
            self.line(at, badge_y + BADGE, self.x(t), badge_y + 32, INK, 1.1)
            for panel, bottom in zip(self.panels, bottoms):
                self.line(self.x(t), bottom - panel.height, self.x(t), bottom, INK, 1.1, "4 3")
            self.badge(at, badge_y, n)

    def badge(self, x, y, n):
        self.out.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{BADGE}' fill='{INK}'/>")
        self.text(x, y + 4.5, str(n), 12, "#ffffff", "middle", "bold")

    def draw_key(self, top_y):
        rows = math.ceil(len(self.events) / KEY_COLUMNS)
        column = (WIDTH - LEFT - RIGHT + 40) / KEY_COLUMNS
        for i, (t, what) in enumerate(self.events):
            x = LEFT - 40 + column * (i // rows)
            y = top_y + KEY_LINE * (i % rows)
            self.badge(x, y, i + 1)
            self.text(x + 20, y + 5, f"{t:.1f} s", 13, FAINT)
            self.text(x + 70, y + 5, what, 13)
        return top_y + KEY_LINE * rows

    def svg(self):
        self.out = []
        self.text(LEFT - 66, 40, self.title, 22, INK, weight="bold")
        self.text(LEFT - 66, 64, self.subtitle, 14, FAINT)
        badge_y, y, bottoms = 100, 172, []
        for panel in self.panels:
            bottoms.append(self.draw_panel(panel, y))
            y = bottoms[-1] + GAP
        self.draw_time_axis(bottoms[-1])
        self.draw_events(badge_y, bottoms)
        height = self.draw_key(bottoms[-1] + 76) + 8
        return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:.0f}' "
                f"viewBox='0 0 {WIDTH} {height:.0f}' {FONT}>\n"
                f"<rect width='100%' height='100%' fill='#ffffff'/>\n"
                + "\n".join(self.out) + "\n</svg>\n")
