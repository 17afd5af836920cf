/** Convert a view to URL parameters, and back: only the differences from the page's initial view. */
function viewWords(view, { axes, ...usual }) {
  const words = new URLSearchParams();
  for (const way of ["rows", "columns"]) {
    if (view[way] !== usual[way]) words.set(way, view[way] === null ? "" : axes[view[way]].key);
  }
  if (view.text.trim()) words.set("filter", view.text.trim());
  view.only.forEach((allowed, axis) => {
    if (!allowed) return;
    const { key, values } = axes[axis], most = allowed.size * 2 > values.length;
    // Write the shorter of the two lists; an empty `only` means no values.
    if (!allowed.size) words.append(`only.${key}`, "");
    values.forEach((label, value) => { if (allowed.has(value) !== most) words.append(`${most ? "not" : "only"}.${key}`, label); });
  });
  if (view.favourites) words.set("favourites", "only");
  return words;
}

/** Return the view that URL parameters name. */
function viewOf(words, { axes, ...usual }) {
  const [rows, columns] = ["rows", "columns"].map((way) => {
    const axis = words.has(way) ? axes.findIndex(({ key }) => key === words.get(way)) : usual[way];
    return axis === -1 ? null : axis;
  });
  const only = axes.map(({ key, values }) => {
    const shown = words.getAll(`only.${key}`), hidden = words.getAll(`not.${key}`);
    if (!shown.length && !hidden.length) return null;
    return new Set([...values.keys()].filter((value) => (shown.length ? shown.includes(values[value]) : !hidden.includes(values[value]))));
  });
  return { rows, columns: columns === rows ? null : columns, text: words.get("filter") ?? "", only, favourites: words.has("favourites") };
}
