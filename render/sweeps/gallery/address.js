/** Convert a view to URL parameters, and back: only the differences from the page's initial view. */
function viewWords(view, { axes, ...usual }) {
  const words = new URLSearchParams();
  for (const way of ["rows", "columns"]) {
    if (view[way] !== usual[way]) words.set(way, view[way] === null ? "" : axes[view[way]].key);
  }
  if (view.sort) words.set("sort", `${view.sort.reversed ? "-" : ""}${view.sort.by === RATING ? RATING : axes[view.sort.by].key}`);
  if (view.text.trim()) words.set("filter", view.text.trim());
  view.only.forEach((allowed, axis) => {
    if (!allowed) return;
    const { key, values } = axes[axis], most = allowed.size * 2 > values.length;
    // Write the shorter of the two lists; an empty `only` means no values.
    if (!allowed.size) words.append(`only.${key}`, "");
    values.forEach((label, value) => { if (allowed.has(value) !== most) words.append(`${most ? "not" : "only"}.${key}`, label); });
  });
  if (view.stars !== null) words.set("stars", view.stars);
  if (view.favourites) words.set("favourites", "only");
  if (view.unrejected) words.set("rejected", "hidden");
  return words;
}

/** Return the view that URL parameters name. */
function viewOf(words, { axes, ...usual }) {
  const named = (name) => axes.findIndex(({ key }) => key === name);
  const [rows, columns] = ["rows", "columns"].map((way) => {
    const axis = words.has(way) ? named(words.get(way)) : usual[way];
    return axis === -1 ? null : axis;
  });
  const [, minus, sorted] = /^(-?)(.*)$/s.exec(words.get("sort") ?? ""), by = sorted === RATING ? RATING : named(sorted);
  const only = axes.map(({ key, values }) => {
    const shown = words.getAll(`only.${key}`), hidden = words.getAll(`not.${key}`);
    if (!shown.length && !hidden.length) return null;
    return new Set([...values.keys()].filter((value) => (shown.length ? shown.includes(values[value]) : !hidden.includes(values[value]))));
  });
  return {
    rows, columns: columns === rows ? null : columns,
    sort: by === -1 ? null : { by, reversed: minus !== "" },
    text: words.get("filter") ?? "", only,
    stars: /^[0-5]$/.test(words.get("stars")) ? Number(words.get("stars")) : null,
    favourites: words.has("favourites"), unrejected: words.has("rejected"),
  };
}
