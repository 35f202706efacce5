"""results - samples of cases; medians, ratios within a round, budgets; table, TSV and picture."""
import os
import platform
import statistics
import time
from xml.sax.saxutils import escape

UNITS = {"s": "s", "us": "µs", "mb": "MB", "gb": "GB", "ms": "ms"}
MORE_IS_BETTER = ("per_s", "mb_s")


class Budget:
    """`who` may have at most (or at least) so much of `metric`; of its ratio, or of itself."""

    def __init__(self, who, metric, most=None, least=None, ratio=False):
        self.who, self.metric, self.most, self.least, self.ratio = who, metric, most, least, ratio

    def met(self, value):
        return value <= self.most if self.least is None else value >= self.least

    def text(self):
        limit = "≤ %g" % self.most if self.least is None else "≥ %g" % self.least
        return limit + ("×" if self.ratio else "")


class Case:
    """Contenders that take turns. A sample is a dict of figures; the unit ends a figure's name."""

    def __init__(self, results, name, title, base, main):
        self.results, self.name, self.title = results, name, title
        self.base_names = [base] if isinstance(base, str) else list(base or [])
        self.main = main
        self.budgets, self.contenders, self.samples = [], [], {}

    def budget(self, who, metric, **limits):
        self.budgets.append(Budget(who, metric, **limits))

    def add(self, who, function):
        self.contenders.append((who, function))

    def run(self, repeats):
        """Round after round, so that all see the same hours of the machine."""
        for number in range(repeats):
            for who, function in list(self.contenders):
                try:
                    sample = function()
                except (RuntimeError, OSError) as error:
                    self.results.note("%s: %s left out: %s" % (self.name, who, error), failed=who.startswith("cpgfs"))
                    self.contenders.remove((who, function))
                    self.samples.pop(who, None)
                    continue
                self.samples.setdefault(who, []).append(sample)
                self.results.progress("%s %d/%d %s: %s" % (self.name, number + 1, repeats, who, brief(sample)))
        self.results.done(self)

    def base(self, metric):
        """The contender that ratios of this metric refer to: the best of those named."""
        named = [who for who in self.base_names if metric in (self.samples.get(who) or [{}])[0]]
        if not named:
            return None
        choose = max if metric.endswith(MORE_IS_BETTER) else min
        return choose(named, key=lambda who: self.median(who, metric))

    def values(self, who, metric):
        return [sample[metric] for sample in self.samples[who] if metric in sample]

    def median(self, who, metric):
        return statistics.median(self.values(who, metric))

    def ratio(self, who, metric):
        base = self.base(metric)
        if base is None or not self.values(who, metric):
            return None
        pairs = [a / b for a, b in zip(self.values(who, metric), self.values(base, metric)) if b]
        return statistics.median(pairs) if pairs else None

    def budget_of(self, who, metric):
        for budget in self.budgets:
            if (budget.who, budget.metric) == (who, metric):
                return budget
        return None

    def judged(self, budget):
        value = self.ratio(budget.who, budget.metric) if budget.ratio else self.median(budget.who, budget.metric)
        return None if value is None else (value, budget.met(value))

    def metrics(self):
        seen = []
        for samples in self.samples.values():
            seen += [name for name in samples[0] if name not in seen]
        return seen


def unit_of(metric):
    return UNITS.get(metric.rpartition("_")[2], "")


def number(value):
    if value is None:
        return ""
    if abs(value) >= 1000:
        return "%.0f" % value
    return "%.3g" % value


def brief(sample):
    return ", ".join("%s %s" % (name, number(value)) for name, value in sample.items())


class Results:
    def __init__(self, args):
        self.args, self.cases, self.notes, self.failed = args, [], [], False
        self.part = ""
        self.rows = []
        self.wide = os.isatty(2)

    def begin_part(self, name, title):
        self.part = name
        print("\n== %s: %s  (load %.1f)" % (name, title, os.getloadavg()[0]), flush=True)

    def end_part(self, seconds):
        print("   (%d:%02d minutes)" % (seconds // 60, seconds % 60), flush=True)

    def wanted(self, name):
        return not self.args.only or any(word in name for word in self.args.only)

    def case(self, name, title, base=None, main="wall_s"):
        return Case(self, "%s/%s" % (self.part, name), title, base, main)

    def note(self, text, failed=False):
        self.notes.append(text)
        self.failed |= failed
        print("   %s%s" % ("FAILED: " if failed else "", text), flush=True)

    def progress(self, text):
        if self.wide:
            print("\r\x1b[K   %s" % text[:110], end="", flush=True)

    def done(self, case):
        if self.wide:
            print("\r\x1b[K", end="")
        if not case.samples:
            return
        self.cases.append(case)
        self.print_case(case)
        self.save()

    # ---- the table

    def print_case(self, case):
        metrics = case.metrics()
        with_ratio = [m for m in metrics if case.base(m) and
                      (m == case.main or any(b.metric == m and b.ratio for b in case.budgets))]
        lines = [[""]]
        for metric in metrics:
            lines[0] += [metric] + (["×" + case.base(metric)] if metric in with_ratio else [])
        for who in case.samples:
            line = [who]
            for metric in metrics:
                values = case.values(who, metric)
                line.append(number(case.median(who, metric)) if values else "")
                if metric in with_ratio:
                    line.append(number(case.ratio(who, metric)) if values else "")
            lines.append(line)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        print("\n %s" % case.title)
        for line in lines:
            print("   " + "  ".join([line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:])]))
        for budget in case.budgets:
            if budget.who in case.samples and case.values(budget.who, budget.metric):
                judged = case.judged(budget)
                if judged:
                    print("   budget: %s %s %s: %s, %s" % (budget.who, budget.metric, budget.text(),
                                                          number(judged[0]), "met" if judged[1] else "MISSED"))
        print(end="", flush=True)

    # ---- the files

    def conditions(self):
        model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
        return "%s; kernel %s; %d × %s; load %.1f; scale %g, %d rounds" % (
            time.strftime("%Y-%m-%d %H:%M"), platform.release(), os.cpu_count(), model, os.getloadavg()[0],
            self.args.scale, self.args.repeats)

    def save(self):
        with open(os.path.join(self.args.out, "bench.tsv"), "w") as out:
            out.write("# %s\n" % self.conditions())
            out.write("case\twho\tmetric\tunit\trounds\tmedian\tleast\tmost\tratio\tratio_to\tbudget\tmet\n")
            for case in self.cases:
                for who in case.samples:
                    for metric in case.metrics():
                        self.write_row(out, case, who, metric)
            for note in self.notes:
                out.write("# %s\n" % note)
        with open(os.path.join(self.args.out, "bench.svg"), "w") as out:
            out.write(picture(self.cases, self.conditions()))

    def write_row(self, out, case, who, metric):
        values = case.values(who, metric)
        if not values:
            return
        budget = case.budget_of(who, metric)
        judged = case.judged(budget) if budget else None
        row = [case.name, who, metric, unit_of(metric), len(values), "%.6g" % statistics.median(values),
               "%.6g" % min(values), "%.6g" % max(values), number(case.ratio(who, metric)), case.base(metric) or "",
               budget.text() if budget else "", ("yes" if judged[1] else "no") if judged else ""]
        out.write("\t".join(str(cell) for cell in row) + "\n")


# ---- the picture: one bar a contender, its main figure as a share of the slowest of its case

BAR, GAP, LEFT, RIGHT, WIDTH = 14, 4, 190, 260, 900


def colour(case, who):
    if not who.startswith("cpgfs"):
        return "#b8b8b8"
    judged = [case.judged(b) for b in case.budgets
              if b.who == who and b.metric == case.main and case.values(who, b.metric)]
    judged = [j for j in judged if j]
    if not judged:
        return "#4a7fb5"
    return "#3b9b57" if all(j[1] for j in judged) else "#c9503c"


def bars(case, y):
    out = ['<text x="8" y="%d" font-weight="bold">%s — %s</text>' % (y + 11, escape(case.name), escape(case.title))]
    y += BAR + GAP
    having = [who for who in case.samples if case.values(who, case.main)]
    most = max(case.median(who, case.main) for who in having)
    for who in having:
        median, ratio = case.median(who, case.main), case.ratio(who, case.main)
        length = (WIDTH - LEFT - RIGHT) * median / most if most else 0
        text = "%s %s" % (number(median), unit_of(case.main) or case.main)
        if ratio is not None:
            text += "  %s×" % number(ratio)
        budget = case.budget_of(who, case.main)
        if budget:
            text += "  (%s)" % budget.text()
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 6, y + 11, escape(who)))
        out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (LEFT, y, length, BAR, colour(case, who)))
        out.append('<text x="%.1f" y="%d">%s</text>' % (LEFT + length + 6, y + 11, escape(text)))
        y += BAR + GAP
    return out, y + GAP * 2


def picture(cases, conditions):
    out, y = [], 40
    for case in cases:
        if any(case.values(who, case.main) for who in case.samples):
            lines, y = bars(case, y)
            out += lines
    head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">\n'
            '<rect width="100%%" height="100%%" fill="white"/>\n'
            '<text x="8" y="18" font-size="13">contrib/bench: %s</text>\n'
            '<text x="8" y="32" fill="#666">shorter is better unless the figure says per_s; green: within its budget, '
            'red: not; grey: others</text>\n' % (WIDTH, y, escape(conditions)))
    return head + "\n".join(out) + "\n</svg>\n"
