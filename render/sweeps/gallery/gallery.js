(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent), { axes, points } = data;
  const { left, sections, neighbour, labels, several } = arranging(axes, points);
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

  // Load pictures near the view: loading="lazy" fetches hundreds around it before it shows those in it.
  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      target.src = target.dataset.src;
    }
  }, { root: $("scroller"), rootMargin: "320px" });

  /** Create a point's cell on the page; the link's address is for opening it in another tab. */
  const cells = points.map(({ state, thumbnail, large: file, picture: whole }, number) => {
    const source = thumbnail ?? file, words = { failed: "failed", waiting: "not dreamed yet" }[state] ?? "no picture to show";
    const inside = source === null ? element("b", { className: state }, words) : element("img", { alt: "", decoding: "async" });
    if (source !== null) {
      inside.dataset.src = source;
      near.observe(inside);
    }
    const link = element("a", { title: full(number), tabIndex: -1 }, inside, element("span"));
    if (file ?? whole) link.href = file ?? whole; else link.setAttribute("role", "link");
    return element("div", { className: "cell" }, link);
  });

  const numberOf = (target) => cells.indexOf(target.closest?.(".cell"));
  const tools = $("tools-template").content.firstElementChild; // buttons on the current point

  function say(text) {
    $("said").textContent = text;
  }

  // ---- Favourites

  const favourites = new Favourites(data);

  function toggleFavourite(number) {
    const kept = favourites.toggle(number), words = favourites.has(number) ? "a favourite" : "no favourite any more";
    say(`${brief(number)} is ${words}${kept ? "" : "; this browser keeps it only while the page is open: export it"}`);
    showFavourites();
    if (view.favourites) update();
  }

  function showFavourites() {
    cells.forEach((cell, number) => {
      cell.classList.toggle("favourite", favourites.has(number));
      name(number);
    });
    const count = favourites.numbers().length;
    $("favourites").textContent = `★ ${plural(count, "favourite")}`;
    $("favourites").setAttribute("aria-pressed", view.favourites);
    $("favourites").title = view.favourites ? "Show all points again" : "Show the favourites alone";
    $("export").disabled = count === 0;
    if (open >= 0) $("large-favourite").setAttribute("aria-pressed", favourites.has(open));
    showTags();
    showTools();
  }

  /** Return a point's name for screen readers. */
  function name(number) {
    const { state } = points[number], mark = marks.indexOf(number);
    const more = [state === "done" ? "" : state, favourites.has(number) ? "favourite" : "", mark < 0 ? "" : `${"AB"[mark]} of the comparison`];
    cells[number].firstElementChild.ariaLabel = [full(number), ...more.filter(Boolean)].join(", ");
  }

  $("export").onclick = () => {
    favourites.save();
    say(`${data.favourites.file} is saved`);
  };
  $("favourites").onclick = () => {
    view.favourites = !view.favourites;
    showFavourites();
    update();
  };
  addEventListener("storage", (event) => {
    if (event.key !== data.storage) return;
    favourites.read();
    showFavourites();
    if (view.favourites) update();
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
    shown = left(view, (number) => favourites.has(number));
    laid = sections(view, shown);
    const parts = laid.map((section) => {
      const part = element("section");
      const size = section.flow?.length ?? section.rows.flatMap((row) => row.cells).filter((cell) => cell !== null).length;
      if (section.title) part.append(element("h2", {}, section.title, element("span", { className: "quiet" }, ` · ${size}`)));
      part.append(section.flow ? flow(section) : grid(section));
      return part;
    });
    $("grid").replaceChildren(...parts);
    $("none").hidden = shown.length > 0;
    const states = ["failed", "waiting"].map((state) => [state, points.filter((point) => point.state === state).length]).filter(([, count]) => count);
    const total = plural(points.length, "point");
    $("count").textContent = [shown.length < points.length ? `${shown.length.toLocaleString("en")} of ${total}` : total, ...states.map(([state, count]) => `${count.toLocaleString("en")} ${state}`)].join(" · ");
    if (!shown.includes(current)) rove(shown[0] ?? 0);
    if (active && active.isConnected) active.firstElementChild.focus();
    else if (active && shown.length) cells[current].firstElementChild.focus();
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
      // An axis has one direction: swap the axes.
      if (view[id] !== null && view[id] === view[other]) view[other] = before;
      showControls();
      update();
      if (!sized) fitSize();
    };
  }

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
    for (const id of ["rows", "columns"]) $(id).value = view[id] ?? "";
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
    Object.assign(view, { text: "", only: axes.map(() => null), favourites: false });
    showControls();
    showFavourites();
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

  /** Enlarge the pictures of a grid with few columns. */
  function fitSize() {
    const usual = usualSize(), columns = Math.max(0, ...laid.map((section) => section.columns?.length ?? 0));
    const room = columns ? Math.floor(($("scroller").clientWidth - lengthOf("--head") - 32) / columns / 8) * 8 : 0;
    $("size").value = Math.min(Math.max(room, usual), 256);
    setSize();
  }
  $("controls-toggle").onclick = () => {
    $("controls-toggle").setAttribute("aria-expanded", $("controls").classList.toggle("open"));
  };

  // ---- One point, large

  const large = new Panes($("large-stage"), [...$("large-stage").querySelectorAll(".pane")], (panes) => showZoom(panes, "large"));

  function showZoom(panes, which) {
    const [picture] = panes.pictures.filter(Boolean);
    const scale = picture ? panes.fitting(panes.pictures.indexOf(picture)) * panes.zoom * devicePixelRatio : 0;
    $(`${which}-zoom`).textContent = picture ? `${(scale * 100).toPrecision(scale < 0.1 ? 2 : 3).replace(/\.0+$/, "").replace(/e.*/, "")} %` : "";
  }

  function picture(number) {
    const { large: file, picture: whole, thumbnail, size } = points[number], src = file ?? thumbnail;
    return src === null && whole === null ? null : src && { src, small: thumbnail, width: size[1], height: size[0], alt: full(number) };
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
    $("commands").replaceChildren(...command("Make it again", again, 1), ...command("Make it as a print", poster, 2));
    for (const [id, address] of [["large-file", file ?? points[number].large], ["large-deep", zoom]]) {
      $(id).hidden = !address;
      if (address) $(id).href = address;
    }
    $("large-favourite").setAttribute("aria-pressed", favourites.has(number));
    $("large-mark").setAttribute("aria-pressed", marks.includes(number));
    document.title = `${brief(number)} · ${title}`;
    if (!$("large").open) {
      large.reset();
      $("large").showModal();
      $("large-stage").focus();
    }
    large.draw();
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
  $("large-mark").onclick = () => mark(open);
  $("large").addEventListener("close", () => {
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
      const button = pane.querySelector(".tag button");
      pane.querySelector(".tag span").textContent = `${"AB"[place]}: ${brief(marks[place])}`;
      button.setAttribute("aria-pressed", favourites.has(marks[place]));
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
      if (action) ({ fit: () => panes.fit(), pixels: () => panes.pixels(), in: () => panes.zoomBy(1.25), out: () => panes.zoomBy(0.8) })[action]();
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
    showFavourites();
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
    const number = numberOf(tools);
    tools.querySelector("[data-tool=favourite]").setAttribute("aria-pressed", favourites.has(number));
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
    if (tool === "favourite") toggleFavourite(number); else mark(number);
    tools.remove();
    if (cells[number].isConnected && !comparing) cells[number].firstElementChild.focus();
    bring({ target: cells[number] });
  });

  const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"];

  function keyOfPair(event) {
    if (event.target === $("divider")) {
      const to = { ArrowLeft: split - 0.02, ArrowDown: split - 0.02, ArrowRight: split + 0.02, ArrowUp: split + 0.02, PageDown: split - 0.1, PageUp: split + 0.1, Home: 0, End: 1 }[event.key];
      if (to !== undefined && !event.shiftKey) return divide(to), true;
    }
    if (event.key === "s") return swipe(!swiping), true;
    if (event.key === "x") return exchange(), true;
    return pair.key(event, true);
  }

  function keyOfLarge(event) {
    if (event.target.matches("select")) return false;
    if (event.key === "f") return toggleFavourite(open), true;
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
    const number = numberOf(event.target);
    if (number < 0) return false;
    if (event.key === "f") return toggleFavourite(number), true;
    if (event.key === "c") return mark(number), true;
    if (event.key === "Enter" && !event.target.closest("button")) return enlarge(number), true;
    if (!MOVES.includes(event.key)) return false;
    const to = neighbour(laid, number, event.key, across());
    if (to !== undefined && to !== null) cells[to].firstElementChild.focus();
    return true;
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const handled = $("pair").open ? keyOfPair(event) : $("large").open ? keyOfLarge(event) : keyOfPage(event);
    if (handled) event.preventDefault();
  });

  // ---- The beginning

  for (const id of ["filter", "controls"]) $(id).hidden = false;
  rove(0);
  follow();
  fitSize();
})();
