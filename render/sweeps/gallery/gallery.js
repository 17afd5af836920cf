(() => {
  if (isFrameOfNewest) return;
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent), { axes, points } = data;
  const { left, sections, neighbour, labels, several, renew } = arranging(axes, points);
  const byName = new Map(points.map(({ id }, number) => [id, number]));
  const byPlace = new Map(points.map(({ at }, number) => [at.join(), number]));
  const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  const title = document.title, all = axes.map((_, axis) => axis);
  const told = several.some(Boolean) ? all.filter((axis) => several[axis]) : all;
  const brief = (number) => labels(points[number].at, told, " · ");
  const full = (number) => all.map((axis) => `${axes[axis].name} ${axes[axis].values[points[number].at[axis]]}`).join(", ");

  const view = viewOf(new URLSearchParams(), data);
  let shown = [], laid = []; // points that pass the filters, and their sections
  let current = 0; // point that the Tab key focuses
  let open = -1, comparing = false, swiping = false;
  let marks = []; // up to two points to compare

  function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value; else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  /** Load a cell's picture: the moving one of a film, unless a person prefers that it stands still. */
  function load(picture) {
    picture.src = (still.matches ? null : picture.dataset.motion) ?? picture.dataset.src;
  }

  // Load pictures near the view: loading="lazy" fetches hundreds around it before it shows those in it.
  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      load(target);
    }
  }, { root: $("scroller"), rootMargin: "320px" });

  /** The points' cells on the page: links with a picture or words, and a caption. */
  const cells = points.map((_, number) =>
    element("div", { className: "cell" }, element("a", { title: full(number), tabIndex: -1 }, element("b"), element("span"))));

  /** Show a point's state in its cell; the link's address is for opening it in another tab. */
  function fillCell(number) {
    const { state, thumbnail, motion, large: file, picture: whole, film } = points[number], link = cells[number].firstElementChild;
    const source = thumbnail ?? file, words = { failed: "failed", waiting: "not dreamed yet" }[state] ?? "no picture to show";
    const inside = source === null ? element("b", { className: state }, words) : element("img", { alt: "", decoding: "async" });
    if (source !== null) {
      inside.dataset.src = source;
      if (motion) inside.dataset.motion = motion;
      near.observe(inside);
    }
    link.firstElementChild.replaceWith(inside);
    const address = film ?? file ?? whole;
    if (address) {
      link.href = address;
      link.removeAttribute("role");
    } else link.setAttribute("role", "link");
  }
  points.forEach((_, number) => fillCell(number));

  still.addEventListener("change", () => {
    for (const picture of document.querySelectorAll(".cell img[data-motion][src]")) load(picture);
  });

  const numberOf = (target) => cells.indexOf(target.closest?.(".cell"));
  const tools = $("tools-template").content.firstElementChild; // buttons on the current point

  function say(text) {
    $("said").textContent = text;
  }

  // ---- Ratings: stars, favourites, rejected points and notes

  const ratings = new Ratings(data);
  const starsText = (stars) => "★".repeat(stars);

  /** Return a rating in words. */
  function ratingText({ stars, favourite, rejected, note }) {
    const words = [stars ? plural(stars, "star") : "", favourite ? "favourite" : "", rejected ? "rejected" : "", note ? "has a note" : ""];
    return words.filter(Boolean).join(", ");
  }

  function rate(number, changes) {
    const isStored = ratings.set(number, changes), words = ratingText(ratings.of(number)) || "no stars, no favourite";
    say(`${brief(number)}: ${words}${isStored ? "" : "; this browser keeps it only while the page is open: save the ratings"}`);
    showRating(number);
    showRatingControls();
    // The order stays until the view is changed, so that a point that was rated stays under the eye.
    if (left({ ...view, sort: null }, (at) => ratings.of(at)).includes(number) !== shown.includes(number)) update();
  }

  const toggleFavourite = (number) => rate(number, { favourite: !ratings.of(number).favourite });
  const toggleRejected = (number) => rate(number, { rejected: !ratings.of(number).rejected });
  /** Give stars; the same stars again take them away. */
  const toggleStars = (number, stars) => rate(number, { stars: ratings.of(number).stars === stars ? 0 : stars });

  function showRating(number) {
    const { stars, favourite, rejected, note } = ratings.of(number), { classList, firstElementChild: { dataset } } = cells[number];
    classList.toggle("favourite", favourite);
    classList.toggle("rejected", rejected);
    const marksText = [starsText(stars), note ? "✎" : ""].filter(Boolean).join(" ");
    if (marksText) dataset.rating = marksText; else delete dataset.rating;
    name(number);
  }

  function showRatings() {
    cells.forEach((_, number) => showRating(number));
    showRatingControls();
  }

  /** Update the controls that tell ratings. */
  function showRatingControls() {
    const count = ratings.numbers(({ favourite }) => favourite).length;
    $("favourites").textContent = `♥ ${plural(count, "favourite")}`;
    $("favourites").setAttribute("aria-pressed", view.favourites);
    $("favourites").title = view.favourites ? "Show all points again" : "Show the favourites alone";
    $("unrejected").setAttribute("aria-pressed", view.unrejected);
    $("export").disabled = ratings.numbers(isRated).length === 0;
    if (open >= 0) showLargeRating();
    showTags();
    showTools();
  }

  /** Return a point's name for screen readers. */
  function name(number) {
    const { state } = points[number], mark = marks.indexOf(number);
    const more = [state === "done" ? "" : state, ratingText(ratings.of(number)), mark < 0 ? "" : `${"AB"[mark]} of the comparison`];
    cells[number].firstElementChild.ariaLabel = [full(number), ...more.filter(Boolean)].join(", ");
  }

  /** Show a message, which a button may take back. */
  function tell(text, isProblem = false, undo = null) {
    $("message").hidden = false;
    $("message").classList.toggle("problem", isProblem);
    $("message-text").textContent = text;
    $("message-undo").hidden = !undo;
    $("message-undo").onclick = () => {
      undo();
      $("message").hidden = true;
      showRatings();
      update();
    };
  }
  $("message-close").onclick = () => {
    $("message").hidden = true;
    cells[current]?.firstElementChild.focus();
  };

  $("export").onclick = () => {
    flushNote();
    saveFile(data.favourites.file, ratingsText(data, ratings), "application/yaml");
    say(`${data.favourites.file} is saved`);
  };
  async function openRatings(file) {
    const called = plainNote(file.name).slice(0, 80);
    try {
      if (file.size > LARGEST_FILE) throw new Error(`it is larger than ${LARGEST_FILE / 1e6} MB, which no file of ratings is`);
      const entries = readRatings(await file.text(), data);
      flushNote();
      const { changed, undo } = ratings.merge(entries);
      showRatings();
      update();
      tell(`${called}: ${plural(entries.length, "rating")} read, ${changed ? `${changed.toLocaleString("en")} changed here` : "nothing changed here"}`, false, changed ? undo : null);
    } catch (error) {
      tell(`${called}: ${error.message}`, true);
    }
  }
  $("import").onclick = () => $("import-file").click();
  $("import-file").onchange = () => {
    const [file] = $("import-file").files;
    if (file) openRatings(file);
    $("import-file").value = "";
  };
  addEventListener("dragover", (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
  addEventListener("drop", (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    openRatings(file);
  });
  $("favourites").onclick = () => {
    view.favourites = !view.favourites;
    showRatingControls();
    update();
  };
  $("unrejected").onclick = () => {
    view.unrejected = !view.unrejected;
    showRatingControls();
    update();
  };
  $("stars").onchange = () => {
    view.stars = $("stars").value === "" ? null : Number($("stars").value);
    update();
  };
  addEventListener("storage", (event) => {
    if (event.key !== data.storage.ratings) return;
    ratings.read();
    showRatings();
    if (view.favourites || view.unrejected || view.stars !== null) update();
  });

  // ---- The page: sections of points

  function heading(text, role, className = "") {
    return element("span", { role, className, title: text }, element("b", {}, text));
  }

  function grid(section) {
    const of = section.columns.length;
    const corner = element("span", { role: "columnheader" });
    if (section.across) corner.append(element("b", { className: "over" }, `${section.across}\u00a0→`));
    if (section.down) corner.append(element("b", {}, `${section.down}\u00a0↓`));
    const table = element("div", { className: "table", role: "grid", ariaLabel: section.title || "Points", ariaColCount: of + 1 });
    table.style.setProperty("--of", of);
    table.append(element("div", { className: "line heads", role: "row" }, corner, ...section.columns.map((label) => heading(label, "columnheader"))));
    for (const row of section.rows) {
      const line = element("div", { className: "line body", role: "row" }, heading(row.label, "rowheader"));
      row.cells.forEach((number, column) => {
        if (number === null) return;
        const cell = cells[number];
        cell.setAttribute("role", "gridcell");
        cell.setAttribute("aria-colindex", column + 2);
        cell.style.gridColumn = column + 2;
        line.append(cell);
      });
      table.append(line);
    }
    return table;
  }

  function flow(section) {
    const list = element("div", { className: "flow", role: "list", ariaLabel: section.title || "Points" });
    for (const number of section.flow) {
      const cell = cells[number], caption = cell.firstElementChild.lastElementChild;
      cell.setAttribute("role", "listitem");
      cell.removeAttribute("aria-colindex");
      cell.style.gridColumn = "";
      caption.textContent = labels(points[number].at, section.captions, " · ");
      list.append(cell);
    }
    return list;
  }

  function lay() {
    const active = document.activeElement?.closest?.(".cell");
    shown = left(view, (number) => ratings.of(number));
    laid = sections(fitting(), shown);
    const parts = laid.map((section) => {
      const part = element("section");
      const size = section.flow?.length ?? section.rows.flatMap((row) => row.cells).filter((cell) => cell !== null).length;
      if (section.title) part.append(element("h2", {}, section.title, element("span", { className: "quiet" }, ` · ${size}`)));
      part.append(section.flow ? flow(section) : grid(section));
      return part;
    });
    $("grid").replaceChildren(...parts);
    $("none").hidden = shown.length > 0;
    showCount();
    if (!shown.includes(current)) rove(shown[0] ?? 0);
    if (active && active.isConnected) active.firstElementChild.focus();
    else if (active && shown.length) cells[current].firstElementChild.focus();
  }

  function showCount() {
    const states = ["failed", "waiting"].map((state) => [state, points.filter((point) => point.state === state).length]).filter(([, count]) => count);
    const total = plural(points.length, "point");
    $("count").textContent = [shown.length < points.length ? `${shown.length.toLocaleString("en")} of ${total}` : total, ...states.map(([state, count]) => `${count.toLocaleString("en")} ${state}`)].join(" · ");
  }

  const narrow = matchMedia("(max-width: 720px)");
  /** Return the largest width of a picture, px, with which so many columns fit beside their head. */
  const roomFor = (columns) => Math.floor(($("scroller").clientWidth - lengthOf("--head") - (narrow.matches ? 20 : 32)) / columns);

  /** Return the view as the screen has room for it: on a narrow one, too many columns become lines of pictures. */
  function fitting() {
    const columns = view.columns === null ? 0 : new Set(shown.map((number) => points[number].at[view.columns])).size;
    return narrow.matches && columns && roomFor(columns) < $("size").min ? { ...view, columns: null } : view;
  }

  function rove(number) {
    if (!cells.length) return;
    cells[current].firstElementChild.tabIndex = -1;
    current = number;
    cells[current].firstElementChild.tabIndex = 0;
  }

  /** Return the number of columns of a flow. */
  function across() {
    const list = document.querySelector(".flow");
    return list ? getComputedStyle(list).gridTemplateColumns.split(" ").length : 1;
  }

  function update() {
    lay();
    remember();
  }

  // ---- Controls

  for (const [id, other] of [["rows", "columns"], ["columns", "rows"]]) {
    $(id).append(element("option", { value: "" }, "none"), ...axes.map((axis, number) => element("option", { value: number }, axis.name)));
    $(id).onchange = () => {
      const before = view[id];
      view[id] = $(id).value === "" ? null : Number($(id).value);
      if (id === "columns" && view.columns !== null) view.sort = null;
      // An axis has one direction: swap the axes.
      if (view[id] !== null && view[id] === view[other]) view[other] = before;
      showControls();
      update();
      if (!sized) fitSize();
    };
  }

  $("sort").append(element("option", { value: "" }, "as the grid"), element("option", { value: RATING }, RATING),
    ...all.filter((axis) => several[axis]).map((axis) => element("option", { value: axis }, axes[axis].name)));
  let unsorted = null; // rows and columns before points were sorted
  $("sort").onchange = () => {
    const by = $("sort").value;
    if (by !== "") {
      // The order goes through all points: neither rows nor columns part them, until they are chosen again.
      if (!view.sort) unsorted = { rows: view.rows, columns: view.columns };
      Object.assign(view, { rows: null, columns: null, sort: { by: by === RATING ? RATING : Number(by), reversed: false } });
    } else Object.assign(view, { sort: null }, unsorted ?? { rows: data.rows, columns: data.columns });
    showControls();
    update();
    if (!sized) fitSize();
  };
  $("direction").onclick = () => {
    view.sort = { ...view.sort, reversed: !view.sort.reversed };
    showControls();
    update();
  };

  const menus = axes.map((axis, number) => {
    if (!several[number]) return null;
    const says = element("b"), list = element("ul"), panel = element("div");
    const menu = element("details", { className: "menu" }, element("summary", {}, axis.name, says), panel);
    const set = (allowed) => {
      view.only[number] = allowed === null || allowed.size === axis.values.length ? null : allowed;
      showMenu();
      update();
    };
    const boxes = () => [...list.querySelectorAll("input")];
    const bulk = element("span", { className: "group" }, element("button", { onclick: () => set(null) }, "All"), element("button", { onclick: () => set(new Set()) }, "None"));
    panel.append(bulk, list);
    list.onchange = () => set(new Set(boxes().flatMap((box, value) => (box.checked ? [value] : []))));
    list.onclick = ({ target }) => { if (target.dataset.only) set(new Set([Number(target.dataset.only)])); };
    function showMenu() {
      const allowed = view.only[number];
      const some = allowed && [...allowed].sort((a, b) => a - b).map((value) => axis.values[value]);
      says.textContent = !allowed ? "all" : some.length > 3 ? `${some.length} of ${axis.values.length}` : some.join(", ") || "none";
      menu.classList.toggle("narrowed", Boolean(allowed));
      boxes().forEach((box, value) => { box.checked = !allowed || allowed.has(value); });
    }
    menu.ontoggle = () => {
      if (!menu.open) return;
      for (const other of menus) if (other && other.menu !== menu) other.menu.open = false;
      if (!list.children.length) {
        list.append(...axis.values.map((value, position) => element("li", {},
          element("label", {}, element("input", { type: "checkbox" }), value),
          element("button", { "data-only": position, ariaLabel: `Only ${value}` }, "only"))));
      }
      showMenu();
    };
    $("menus").append(menu);
    return { menu, showMenu };
  });
  document.addEventListener("click", ({ target }) => {
    for (const entry of menus) if (entry?.menu.open && !entry.menu.contains(target)) entry.menu.open = false;
  });

  function showControls() {
    for (const id of ["rows", "columns", "stars"]) $(id).value = view[id] ?? "";
    $("sort").value = view.sort?.by ?? "";
    $("direction").disabled = !view.sort;
    $("direction").setAttribute("aria-pressed", Boolean(view.sort?.reversed));
    if ($("filter").value !== view.text) $("filter").value = view.text;
    for (const entry of menus) entry?.showMenu();
  }

  let waiting = 0;
  $("filter").oninput = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      view.text = $("filter").value;
      update();
    });
  };
  $("clear").onclick = () => {
    Object.assign(view, { text: "", only: axes.map(() => null), stars: null, favourites: false, unrejected: false });
    showControls();
    showRatingControls();
    update();
    $("filter").focus();
  };
  const lengthOf = (variable) => parseInt(getComputedStyle(document.documentElement).getPropertyValue(variable), 10);
  const setSize = () => document.documentElement.style.setProperty("--cell", `${$("size").value}px`);
  let sized = false; // true if the user chose the size
  $("size").oninput = () => {
    sized = true;
    setSize();
  };

  function usualSize() {
    document.documentElement.style.removeProperty("--cell");
    return lengthOf("--cell");
  }

  /** Enlarge the pictures of a grid with few columns; on a narrow screen, make them as small as it takes. */
  function fitSize() {
    const usual = usualSize(), columns = Math.max(0, ...laid.map((section) => section.columns?.length ?? 0));
    const room = columns ? Math.floor(roomFor(columns) / 8) * 8 : 0;
    $("size").value = Math.min(narrow.matches && columns ? room : Math.max(room, usual), 256);
    setSize();
  }
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || !(narrow.matches || width <= 720)) return;
    width = innerWidth;
    lay();
    if (!sized) fitSize();
  });
  $("controls-toggle").onclick = () => {
    $("controls-toggle").setAttribute("aria-expanded", $("controls").classList.toggle("open"));
  };

  // ---- One point, large

  const large = new Panes($("large-stage"), [...$("large-stage").querySelectorAll(".pane")], (panes) => showZoom(panes, "large"));

  function showZoom(panes, which) {
    const [picture] = panes.pictures.filter(Boolean), films = panes.films().length;
    $(`${which}-play`).hidden = !films;
    if (films) $(`${which}-play`).textContent = panes.playing() ? "Pause" : "Play";
    const scale = picture ? panes.fitting(panes.pictures.indexOf(picture)) * panes.zoom * devicePixelRatio : 0;
    $(`${which}-zoom`).textContent = picture ? `${(scale * 100).toPrecision(scale < 0.1 ? 2 : 3).replace(/\.0+$/, "").replace(/e.*/, "")} %` : "";
  }

  function picture(number) {
    const { large: file, picture: whole, thumbnail, motion, film, size } = points[number];
    const src = (still.matches && motion ? thumbnail : file) ?? thumbnail;
    return src === null && whole === null ? null : src && { src, film, small: thumbnail, width: size[1], height: size[0], alt: full(number) };
  }

  function notice(place, number) {
    const { state, reason, picture: whole } = points[number];
    const words = { failed: "This point failed", waiting: "This point has not been dreamed yet" }[state] ?? "There is no picture that a browser shows";
    const lines = picture(number) ? [] : [words, reason, state === "done" && whole ? decodeURIComponent(whole) : ""];
    place.replaceChildren(...lines.filter(Boolean).map((line) => element("p", {}, line)));
  }

  function row(key, value) {
    return element("tr", {}, element("th", { scope: "row" }, key), element("td", {}, value));
  }

  function setting(number, axis) {
    const { at } = points[number], { name: called, values } = axes[axis];
    if (!several[axis] || values.length > 64) return row(called, values[at[axis]]);
    const options = values.map((label, value) => {
      const to = byPlace.get(at.with(axis, value).join());
      return element("option", { value: to ?? "", selected: value === at[axis], disabled: to === undefined }, label);
    });
    const select = element("select", { ariaLabel: called, onchange: () => {
      go(Number(select.value));
      $("settings").rows[axis].querySelector("select").focus();
    } }, ...options);
    return row(called, select);
  }

  /** Return rows that name a bred point's parents; those on the page are buttons that lead to them. */
  function parentRows(number) {
    return points[number].parents.map(([text, parent], place) => row(place ? "and" : "bred from",
      parent === number ? "a favourite itself" : parent === null ? text : element("button", { onclick: () => go(parent) }, text)));
  }

  function command(purpose, text, number) {
    const id = `command-${number}`;
    return !text ? [] : [element("h3", {}, purpose), element("div", { className: "command" },
      element("pre", { id, tabIndex: 0 }, text), element("button", { className: "copy", "data-of": id, ariaLabel: `Copy the command: ${purpose}` }, "Copy"))];
  }

  function duration(seconds) {
    if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function show(number) {
    const { state, reason, size, seconds, picture: file, zoom, words, command: again, poster } = points[number];
    flushNote();
    open = number;
    $("large-title").textContent = full(number);
    const place = shown.indexOf(number);
    $("large-place").textContent = place < 0 ? "not among the points shown" : `${place + 1} of ${shown.length}`;
    notice($("large-notice"), number);
    large.show([picture(number)]);
    $("settings").replaceChildren(...all.map((axis) => setting(number, axis)));
    const facts = [["state", state === "done" ? "" : state], ["reason", reason], ["size", size[0] ? `${size[1]} × ${size[0]} px` : ""],
      ["time", state === "done" && seconds > 0 ? duration(seconds) : ""], ["file", file ? decodeURIComponent(file) : ""], ["words", words.join(" ")]];
    $("settings").append(...facts.filter(([, value]) => value).map(([key, value]) => row(key, value)));
    $("settings").append(...parentRows(number));
    $("commands").replaceChildren(...command("Make it again", again, 1), ...command(data.larger, poster, 2));
    showFiles(number);
    showLargeRating();
    $("large-note").value = ratings.of(number).note;
    $("large-mark").setAttribute("aria-pressed", marks.includes(number));
    document.title = `${brief(number)} · ${title}`;
    if (!$("large").open) {
      large.reset();
      $("large").showModal();
      $("large-stage").focus();
    }
    large.draw();
  }

  /** Show the links to a point's files. A server's files are saved by their link; a page on a disk may only open its own. */
  function showFiles(number) {
    const { picture: whole, large: file, zoom } = points[number], taken = download.file(number);
    const address = download.isOnDisk ? whole ?? file : taken?.address;
    for (const [id, to] of [["large-file", address], ["large-deep", zoom]]) {
      $(id).hidden = !to;
      if (to) $(id).href = to;
    }
    $("large-take").hidden = !taken || !download.isOnDisk;
    if (!download.isOnDisk && taken) Object.assign($("large-file"), { download: taken.name, textContent: "Download", title: "Download (D)", target: "" });
  }

  function go(number) {
    if (number === undefined || number === null || Number.isNaN(number)) return;
    show(number);
    rove(number);
    remember();
  }

  /** After a dialog, focus the point that it showed last, unless the user has moved the focus. */
  function goBack(number) {
    const { activeElement } = document;
    const elsewhere = activeElement !== document.body && !activeElement?.closest(".cell, #tray, dialog");
    if (number < 0 || elsewhere || !cells[number].isConnected) return;
    rove(number);
    cells[number].firstElementChild.focus();
  }

  function enlarge(number) {
    rove(number);
    show(number);
    remember(true);
  }

  const step = (by) => {
    const among = shown.includes(open) ? laid.flatMap((section) => section.flow ?? section.rows.flatMap(({ cells: line }) => line.filter((cell) => cell !== null))) : all.length && [...points.keys()];
    go(among[(among.indexOf(open) + by + among.length) % among.length]);
  };
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("large-favourite").onclick = () => toggleFavourite(open);
  $("large-rejected").onclick = () => toggleRejected(open);
  for (const button of document.querySelectorAll("#large [data-stars]")) button.onclick = () => toggleStars(open, Number(button.dataset.stars));

  function showLargeRating() {
    const { stars, favourite, rejected, note } = ratings.of(open);
    for (const button of document.querySelectorAll("#large [data-stars]")) {
      button.classList.toggle("lit", Number(button.dataset.stars) <= stars);
      button.setAttribute("aria-pressed", Number(button.dataset.stars) === stars);
    }
    $("large-favourite").setAttribute("aria-pressed", favourite);
    $("large-rejected").setAttribute("aria-pressed", rejected);
    if (document.activeElement !== $("large-note")) $("large-note").value = note;
  }

  let noted = -1, noteTimer = 0; // point whose note has been changed and not stored
  function flushNote() {
    clearTimeout(noteTimer);
    const number = noted, note = plainNote($("large-note").value).trim().slice(0, LONGEST_NOTE);
    noted = -1;
    if (number >= 0 && note !== ratings.of(number).note) rate(number, { note });
  }
  $("large-note").maxLength = LONGEST_NOTE;
  $("large-note").oninput = () => {
    noted = open;
    clearTimeout(noteTimer);
    noteTimer = setTimeout(flushNote, 400);
  };
  $("large-note").onblur = flushNote;
  addEventListener("pagehide", flushNote);

  $("large-mark").onclick = () => mark(open);
  $("large").addEventListener("close", () => {
    flushNote();
    large.stop();
    const last = open;
    open = -1;
    document.title = title;
    if (!comparing) {
      goBack(last);
      remember();
    }
  });
  $("all-shared").append(...[...$("shared").rows].map((line) => line.cloneNode(true)));
  $("all").hidden = !$("shared").rows.length;

  // ---- Two points, compared

  const pair = new Panes($("pair-stage"), [...$("pair-stage").querySelectorAll(".pane")], (panes) => showZoom(panes, "pair"));
  let split = 0.5;

  /** Mark a point for comparison; later points replace the second mark. */
  function mark(number) {
    if (marks.includes(number)) marks = marks.filter((marked) => marked !== number);
    else marks = [...marks.slice(0, 1), number];
    showMarks();
    if (marks.length === 2 && marks[1] === number) compare(true);
    else {
      say(marks.length ? `${brief(marks[0])} is marked: choose another to compare it with` : "Nothing is marked");
      remember();
    }
  }

  function showMarks() {
    for (const cell of document.querySelectorAll("[data-mark]")) delete cell.dataset.mark;
    marks.forEach((number, place) => { cells[number].dataset.mark = "AB"[place]; });
    cells.forEach((_, number) => name(number));
    $("tray").hidden = !marks.length;
    const bold = (number) => element("b", {}, brief(number));
    $("tray-text").replaceChildren(...(marks.length === 2 ? [bold(marks[0]), " and ", bold(marks[1])] : marks.length ? [bold(marks[0]), ", to be compared with another: press C on it"] : []));
    $("tray-open").disabled = marks.length < 2;
    if (open >= 0) $("large-mark").setAttribute("aria-pressed", marks.includes(open));
    showTools();
  }

  function compare(anew) {
    comparing = true;
    if ($("large").open) {
      open = -1;
      $("large").close();
    }
    showPair();
    if (!$("pair").open) {
      pair.reset();
      $("pair").showModal();
      (swiping ? $("divider") : $("pair-stage")).focus();
    }
    pair.draw();
    remember(anew);
  }

  function showPair() {
    pair.show(marks.map(picture));
    marks.forEach((number, place) => notice(pair.panes[place].querySelector(".notice"), number));
    $("pair-stage").dataset.mode = swiping ? "swipe" : "side";
    $("side").setAttribute("aria-pressed", !swiping);
    $("swipe").setAttribute("aria-pressed", swiping);
    $("divider").hidden = !swiping;
    divide(split);
    showTags();
    const [first, second] = marks.map((number) => points[number].at), cell = (text) => element("td", {}, text);
    const rows = all.filter((axis) => first[axis] !== second[axis]).map((axis) => element("tr", {}, element("th", { scope: "row" }, axes[axis].name), cell(axes[axis].values[first[axis]]), cell(axes[axis].values[second[axis]])));
    $("differences").querySelector("tbody").replaceChildren(...rows);
    document.title = `${marks.map(brief).join(" and ")} · ${title}`;
    pair.draw();
  }

  function showTags() {
    if (marks.length < 2) return;
    pair.panes.forEach((pane, place) => {
      const button = pane.querySelector(".tag button"), { stars, favourite, rejected } = ratings.of(marks[place]);
      pane.querySelector(".tag span").textContent = `${"AB"[place]}: ${brief(marks[place])}`;
      pane.querySelector(".tag i").textContent = [starsText(stars), rejected ? "rejected" : ""].filter(Boolean).join(" ");
      button.setAttribute("aria-pressed", favourite);
      button.ariaLabel = `${"AB"[place]} is a favourite`;
      button.onclick = () => toggleFavourite(marks[place]);
    });
  }

  function divide(share) {
    split = Math.min(1, Math.max(0, share));
    $("divider").style.left = `${split * 100}%`;
    $("divider").setAttribute("aria-valuenow", Math.round(split * 100));
    pair.panes[1].style.clipPath = swiping ? `inset(0 0 0 ${split * 100}%)` : "";
  }

  function swipe(isOn) {
    swiping = isOn;
    showPair();
    if (swiping) $("divider").focus();
    remember();
  }
  function exchange() {
    marks.reverse();
    showMarks();
    showPair();
    remember();
  }
  $("side").onclick = () => swipe(false);
  $("swipe").onclick = () => swipe(true);
  $("exchange").onclick = exchange;
  $("tray-open").onclick = () => compare(true);
  $("tray-clear").onclick = () => {
    marks = [];
    showMarks();
    remember();
    cells[current].firstElementChild.focus();
  };
  $("divider").addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    $("divider").setPointerCapture(event.pointerId);
  });
  $("divider").addEventListener("pointermove", (event) => {
    if (!$("divider").hasPointerCapture(event.pointerId)) return;
    const box = $("pair-stage").getBoundingClientRect();
    divide((event.clientX - box.x) / box.width);
  });
  $("pair").addEventListener("close", () => {
    pair.stop();
    comparing = false;
    document.title = title;
    const back = marks.at(-1);
    if (back !== undefined) goBack(back);
    remember();
  });
  for (const [dialog, panes] of [[$("large"), large], [$("pair"), pair]]) {
    dialog.querySelector(".close").onclick = () => dialog.close();
    dialog.addEventListener("click", (event) => {
      const action = event.target.closest("[data-view]")?.dataset.view;
      if (action) ({ fit: () => panes.fit(), pixels: () => panes.pixels(), in: () => panes.zoomBy(1.25), out: () => panes.zoomBy(0.8), play: () => panes.pause() })[action]();
    });
  }

  // ---- The address names the view and what is open

  function address() {
    const words = viewWords(view, data);
    if (open >= 0) words.set("point", points[open].id);
    if (comparing) {
      for (const number of marks) words.append("compare", points[number].id);
      if (swiping) words.set("by", "swipe");
    }
    return words.toString();
  }

  function remember(anew = false) {
    const words = address(), here = location.pathname + location.search + (words ? `#${words}` : "");
    if (words === location.hash.slice(1)) return;
    history[anew ? "pushState" : "replaceState"](null, "", here);
  }

  function follow() {
    const words = new URLSearchParams(location.hash.slice(1));
    Object.assign(view, viewOf(words, data));
    showControls();
    showRatings();
    lay();
    const pairOf = words.getAll("compare").map((id) => byName.get(id)).filter((number) => number !== undefined);
    const number = byName.get(words.get("point"));
    if (pairOf.length === 2 && pairOf[0] !== pairOf[1]) {
      marks = pairOf;
      swiping = words.get("by") === "swipe";
      showMarks();
      compare(false);
    } else {
      if ($("pair").open) $("pair").close();
      if (number !== undefined) {
        rove(number);
        show(number);
      } else if ($("large").open) $("large").close();
    }
  }
  addEventListener("hashchange", follow);

  // ---- Mouse and keys

  function bring({ target }) {
    const cell = target.closest?.(".cell");
    if (!cell || tools.parentElement === cell) return;
    cell.append(tools);
    showTools();
  }
  /** Update the buttons on a point to its state, also after a key press. */
  function showTools() {
    const number = numberOf(tools), { favourite, rejected } = ratings.of(number);
    tools.querySelector("[data-tool=favourite]").setAttribute("aria-pressed", favourite);
    tools.querySelector("[data-tool=reject]").setAttribute("aria-pressed", rejected);
    tools.querySelector("[data-tool=mark]").setAttribute("aria-pressed", marks.includes(number));
  }
  $("grid").addEventListener("pointerover", (event) => { if (event.pointerType !== "touch") bring(event); });
  $("grid").addEventListener("focusin", (event) => {
    const number = numberOf(event.target);
    if (number >= 0) rove(number);
    if (event.target.matches(":focus-visible")) bring(event);
  });
  $("grid").addEventListener("click", (event) => {
    const number = numberOf(event.target), tool = event.target.closest("[data-tool]")?.dataset.tool;
    if (number < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (!tool) return enlarge(number);
    ({ favourite: toggleFavourite, reject: toggleRejected, mark })[tool](number);
    tools.remove();
    if (cells[number].isConnected && !comparing) cells[number].firstElementChild.focus();
    bring({ target: cells[number] });
  });

  const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"];

  /** Rate a point by a key; return false for other keys. Digits count by their place where they are typed with Shift, too. */
  function keyOfRating(event, number) {
    const key = event.key.toLowerCase();
    const digit = /^[0-5]$/.test(key) ? key : "+-=/?".includes(key) ? undefined : /^Digit([0-5])$/.exec(event.code)?.[1];
    if (digit !== undefined) rate(number, { stars: Number(digit) });
    else if (key !== "f" && key !== "x") return false;
    else if (!event.repeat) (key === "f" ? toggleFavourite : toggleRejected)(number);
    return true;
  }

  function keyOfPair(event) {
    if (event.target === $("divider")) {
      const to = { ArrowLeft: split - 0.02, ArrowDown: split - 0.02, ArrowRight: split + 0.02, ArrowUp: split + 0.02, PageDown: split - 0.1, PageUp: split + 0.1, Home: 0, End: 1 }[event.key];
      if (to !== undefined && !event.shiftKey) return divide(to), true;
    }
    if (keyOfRating(event, marks[event.shiftKey ? 1 : 0])) return true;
    if (event.key === "s") return swipe(!swiping), true;
    if (event.key === "e") return exchange(), true;
    return pair.key(event, true);
  }

  function keyOfLarge(event) {
    if (event.target === $("large-note")) return event.key === "Escape" && ($("large-stage").focus(), true);
    if (event.target.matches("select")) return false;
    if (keyOfRating(event, open)) return true;
    if (event.key === "n") return $("large-note").focus(), true;
    if (event.key === "d") return [$("large-take"), $("large-file")].find(({ hidden }) => !hidden)?.click(), true;
    if (event.key === "c") return mark(open), true;
    if (event.shiftKey || !MOVES.includes(event.key)) return large.key(event, event.shiftKey);
    if (event.target.closest("pre, aside summary") || (event.target.closest("aside") && /Page|Home|End/.test(event.key))) return false;
    const to = shown.includes(open) ? neighbour(laid, open, event.key, across()) : undefined;
    if (to === undefined && !shown.includes(open)) step(/Left|Up|Home/.test(event.key) ? -1 : 1); else go(to);
    return true;
  }

  function keyOfPage(event) {
    if (event.target.matches("input, select")) {
      if (event.target === $("filter") && event.key === "Enter" && shown.length) return enlarge(shown[0]), true;
      return false;
    }
    if (event.key === "/") return $("filter").focus(), true;
    if (event.key === "Escape") {
      const menu = menus.find((entry) => entry?.menu.open)?.menu;
      if (!menu) return false;
      menu.open = false;
      menu.firstElementChild.focus();
      return true;
    }
    if (event.key === "d") return download.open("chosen"), true;
    const number = numberOf(event.target);
    if (number < 0) return false;
    if (keyOfRating(event, number)) return true;
    if (event.key === "n") return enlarge(number), $("large-note").focus(), true;
    if (event.key === "c") return mark(number), true;
    if (event.key === "Enter" && !event.target.closest("button")) return enlarge(number), true;
    if (!MOVES.includes(event.key)) return false;
    const to = neighbour(laid, number, event.key, across());
    if (to !== undefined && to !== null) cells[to].firstElementChild.focus();
    return true;
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || $("take").open) return;
    if (event.key === "?" && !event.target.matches("input, textarea")) {
      event.preventDefault();
      return $("keys").showModal();
    }
    const handled = $("pair").open ? keyOfPair(event) : $("large").open ? keyOfLarge(event) : keyOfPage(event);
    if (handled) event.preventDefault();
  });

  // ---- Files to take away, and what is new

  const download = new Download(
    { dialog: $("take"), which: $("take-which"), zip: $("take-zip"), list: $("take-list"), folder: $("take-folder"), how: $("take-how"), count: $("take-count"), links: $("take-links") },
    data, { chosen: () => ratings.numbers(isChosen), shown: () => shown, open: () => (open < 0 ? [] : [open]) }, brief);
  $("take-open").onclick = () => download.open("chosen");
  $("large-take").onclick = () => download.open("open");
  $("keys-open").onclick = () => $("keys").showModal();
  for (const dialog of [$("take"), $("keys")]) dialog.querySelector(".close").onclick = () => dialog.close();

  /** Show what has changed since the page was opened; return false if it has other points, which takes another page. */
  function takeNewest(newest) {
    const place = ({ id, at }) => `${id} ${at}`;
    const isSame = newest.identity === data.identity && newest.points.length === points.length && JSON.stringify(newest.axes) === JSON.stringify(axes) &&
      newest.points.every((point, number) => place(point) === place(points[number]));
    if (!isSame) return false;
    const isChanged = (point, number) => Object.keys(point).some((key) => !Array.isArray(point[key]) && point[key] !== points[number][key]);
    const changed = newest.points.flatMap((point, number) => (isChanged(point, number) ? [number] : []));
    for (const number of changed) {
      Object.assign(points[number], newest.points[number]);
      fillCell(number);
      name(number);
    }
    renew(changed);
    showCount();
    if (changed.includes(open)) show(open);
    if (comparing && changed.some((number) => marks.includes(number))) showPair();
    return true;
  }
  new Progress({ bar: $("progress-bar"), fill: $("progress-fill"), text: $("progress-text"), reload: $("progress-reload") }, data, takeNewest);

  // ---- The beginning

  for (const id of ["filter", "controls"]) $(id).hidden = false;
  rove(0);
  follow();
  fitSize();
})();
