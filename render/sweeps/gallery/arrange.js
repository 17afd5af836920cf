/** Name of the order by rating, in place of an axis. */
const RATING = "rating";

/** Filter and arrange the points of a view. Uses the data alone, not the page. */
function arranging(axes, points) {
  const several = axes.map((axis) => axis.values.length > 1);
  const textOf = ({ at, words, state, reason }) =>
    [...axes.map((axis, number) => `${axis.name}=${axis.values[at[number]]}`), ...words, state, reason].join(" ").toLowerCase();
  const texts = points.map(textOf);

  const labels = (at, of, joint) => of.map((axis) => axes[axis].values[at[axis]]).join(joint);
  const named = (at, of) => of.map((axis) => `${axes[axis].name} ${axes[axis].values[at[axis]]}`).join(" · ");
  const namesOf = (of) => of.map((axis) => axes[axis].name).join(" · ");

  /** Return the test for a filter word: `key=value` for a value of an axis, `a,b` for either value, else a text search. */
  function testFor(word) {
    const equals = word.indexOf("="), key = word.slice(0, equals), text = word.slice(equals + 1);
    const axis = equals < 1 ? -1 : axes.findIndex((candidate) => [candidate.key, candidate.name].some((name) => name.toLowerCase() === key));
    if (axis < 0) return (number, { note }) => texts[number].includes(word) || note.toLowerCase().includes(word);
    const values = axes[axis].values.map((value) => value.toLowerCase());
    const choices = values.includes(text) ? [text] : text.split(",");
    // A text that is not a value, perhaps typed in part, matches the values that begin with it.
    const fitting = new Set([...values.keys()].filter((value) => choices.some((choice) =>
      values.includes(choice) ? values[value] === choice : values[value].startsWith(choice))));
    return (number) => fitting.has(points[number].at[axis]);
  }

  /** Return the numbers of the points that pass a view's filters, in its order. `rating` returns the rating of a point. */
  function left({ text, only, stars, favourites, unrejected, sort }, rating) {
    const words = (text.toLowerCase().match(/(?:"[^"]*"|[^\s"])+/g) || []).map((word) => word.replaceAll('"', ""));
    const tests = words.filter(Boolean).map(testFor);
    only.forEach((allowed, axis) => { if (allowed) tests.push((number) => allowed.has(points[number].at[axis])); });
    if (stars !== null) tests.push((_, rated) => (stars ? rated.stars >= stars : rated.stars === 0));
    if (favourites) tests.push((_, { favourite }) => favourite);
    if (unrejected) tests.push((_, { rejected }) => !rejected);
    return sorted([...points.keys()].filter((number) => tests.every((holds) => holds(number, rating(number)))), sort, rating);
  }

  const collator = new Intl.Collator("en", { numeric: true });
  /** Return the place of each value of an axis in order: by number if all are numbers, else by text. */
  function ranksOf({ values }) {
    const numbers = values.map(Number), areNumbers = values.every((label, value) => label.trim() && Number.isFinite(numbers[value]));
    const order = [...values.keys()].sort((a, b) => (areNumbers ? numbers[a] - numbers[b] : collator.compare(values[a], values[b])));
    const ranks = [];
    order.forEach((value, place) => { ranks[value] = place; });
    return ranks;
  }

  /** Return points by the value of an axis, or the best rated first; `reversed` turns that round. Equals keep their order. */
  function sorted(numbers, sort, rating) {
    if (!sort) return numbers;
    const ranks = sort.by === RATING ? null : ranksOf(axes[sort.by]), sign = sort.reversed ? -1 : 1;
    const rank = (number) => {
      if (ranks) return ranks[points[number].at[sort.by]];
      const { stars, favourite, rejected } = rating(number);
      return rejected ? 1 : -2 * stars - favourite;
    };
    const keys = new Map(numbers.map((number) => [number, rank(number)]));
    return numbers.sort((a, b) => sign * (keys.get(a) - keys.get(b)) || a - b);
  }

  /** Take note of points whose state has changed, for the filter by words. */
  function renew(numbers) {
    for (const number of numbers) texts[number] = textOf(points[number]);
  }

  /** Return lists of the points with equal keys, in the order of their first points. */
  function grouped(numbers, key) {
    const groups = new Map();
    for (const number of numbers) {
      const name = key(points[number].at);
      if (groups.has(name)) groups.get(name).push(number); else groups.set(name, [number]);
    }
    return [...groups.values()];
  }

  /**
   * Return the sections of the page. A section with `columns` is a grid: each row has a label and, for each column, a point
   * or null. Others are a `flow` of points. `captions` are the axes that titles and headings do not show.
   */
  function sections({ rows, columns }, numbers) {
    const others = axes.map((_, axis) => axis).filter((axis) => several[axis] && axis !== rows && axis !== columns);
    const by = (of) => (at) => of.map((axis) => at[axis]).join();
    const first = ([number]) => points[number].at;
    if (columns === null) {
      const captions = others.length || rows !== null ? others : axes.map((_, axis) => axis);
      const groups = rows === null ? [numbers] : grouped(numbers, by([rows])).sort((a, b) => first(a)[rows] - first(b)[rows]);
      return groups.filter((group) => group.length).map((flow) => ({ title: rows === null ? "" : named(first(flow), [rows]), flow, captions }));
    }
    const used = [...new Set(numbers.map((number) => points[number].at[columns]))].sort((a, b) => a - b);
    const heads = used.map((value) => axes[columns].values[value]), place = new Map(used.map((value, position) => [value, position]));
    const down = rows === null ? others : [rows], apart = rows === null ? [] : others;
    return grouped(numbers, by(apart)).map((group) => {
      const lines = grouped(group, by(down));
      if (rows !== null) lines.sort((a, b) => first(a)[rows] - first(b)[rows]);
      return {
        title: named(first(group), apart),
        across: axes[columns].name,
        down: namesOf(down),
        columns: heads,
        rows: lines.map((line) => {
          const cells = Array(used.length).fill(null);
          for (const number of line) cells[place.get(points[number].at[columns])] = number;
          return { label: labels(first(line), down, " · "), cells };
        }),
      };
    });
  }

  /** Return the point that a key moves to from a point, or undefined. `across` is the number of columns of a flow. */
  function neighbour(among, number, key, across) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, PageUp: -1, PageDown: 1 }[key];
    const inside = among.findIndex((section) => (section.flow ?? section.rows.flatMap((row) => row.cells)).includes(number));
    if (inside < 0) return undefined;
    const section = among[inside];
    if (section.flow) {
      const order = among.flatMap((group) => group.flow), { flow } = section, at = flow.indexOf(number), page = key.startsWith("Page");
      if (key === "Home") return order[0];
      if (key === "End") return order.at(-1);
      if (key === "ArrowLeft" || key === "ArrowRight") return order[order.indexOf(number) + step];
      if (page && among.length > 1) return among[inside + step]?.flow[0];
      const to = at + step * across * (page ? 3 : 1), lastLine = (points) => points.length - 1 - ((points.length - 1) % across);
      if (flow[to] !== undefined) return flow[to];
      // The last line may be shorter than the line above it.
      if (step > 0 && at < lastLine(flow)) return flow.at(-1);
      const beyond = among[inside + step]?.flow;
      return beyond && beyond[Math.min((step > 0 ? 0 : lastLine(beyond)) + (at % across), beyond.length - 1)];
    }
    const row = section.rows.findIndex((line) => line.cells.includes(number)), column = section.rows[row].cells.indexOf(number);
    const filled = (cells) => cells.filter((cell) => cell !== null);
    if (key === "Home") return filled(section.rows[row].cells)[0];
    if (key === "End") return filled(section.rows[row].cells).at(-1);
    if (key.startsWith("Page")) {
      return among[inside + step]?.rows.find((line) => line.label === section.rows[row].label)?.cells[column] ?? undefined;
    }
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const { cells } = section.rows[row];
      let to = column + step;
      while (cells[to] === null) to += step;
      return cells[to];
    }
    const columnCells = among.flatMap((group) => group.rows.map(({ cells }) => cells[column]));
    let to = among.slice(0, inside).reduce((sum, group) => sum + group.rows.length, 0) + row + step;
    while (columnCells[to] === null) to += step;
    return columnCells[to];
  }

  return { left, sections, neighbour, labels, several, renew };
}
