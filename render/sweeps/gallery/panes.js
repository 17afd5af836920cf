/** Matches if a person has asked for less motion. */
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Pictures or films, one per pane, that zoom and move together, whatever their sizes. They share the zoom (1 fits a picture into its
 * pane) and the point of the pictures in the middle of the panes (0..1 along each side).
 */
class Panes {
  constructor(stage, panes, changed) {
    this.stage = stage;
    this.panes = panes;
    this.changed = changed;
    this.pictures = [];
    this.pointers = new Map();
    this.reset();
    new ResizeObserver(() => this.draw()).observe(stage);
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, ({ pointerId }) => this.pointers.delete(pointerId));
    stage.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button, a, [role=slider]")) this.zoomTo(this.zoom > 1.001 ? 1 : this.whole(), event);
    });
  }

  /** Show a picture in each pane: {src, film, small, width, height, alt}, or null for an empty pane. */
  show(pictures) {
    this.pictures = pictures.map((picture, number) => {
      const pane = this.panes[number];
      pane.querySelector("img, video")?.remove();
      if (!picture) return null;
      if (picture.film) return this.play(picture, pane);
      const image = document.createElement("img"), shown = { ...picture, image };
      image.alt = picture.alt;
      image.draggable = false;
      // Show the thumbnail until the file has loaded.
      if (picture.small) image.style.backgroundImage = `url("${picture.small}")`;
      image.addEventListener("load", () => {
        [shown.width, shown.height] = [image.naturalWidth || shown.width, image.naturalHeight || shown.height];
        this.draw();
      });
      image.src = picture.src;
      pane.prepend(image);
      return shown;
    });
    this.draw();
  }

  /** Show a film in a pane: silent, again and again, and still at first for those who prefer that. */
  play(picture, pane) {
    const film = document.createElement("video"), shown = { ...picture, image: film };
    Object.assign(film, { muted: true, loop: true, playsInline: true, autoplay: !still.matches, ariaLabel: picture.alt });
    if (picture.small) film.poster = picture.small;
    film.addEventListener("loadedmetadata", () => {
      [shown.width, shown.height] = [film.videoWidth, film.videoHeight];
      this.draw();
    });
    for (const kind of ["play", "pause"]) film.addEventListener(kind, () => this.changed?.(this));
    // A browser without the film's codec shows its small moving picture.
    film.addEventListener("error", () => this.show(this.pictures.map((other) => other && { ...other, film: other === shown ? null : other.film })));
    film.src = picture.film;
    pane.prepend(film);
    return shown;
  }

  films() {
    return this.pictures.filter((picture) => picture?.film).map(({ image }) => image);
  }

  playing() {
    return this.films().some((film) => !film.paused);
  }

  /** Stop the films, if there are any. */
  stop() {
    for (const film of this.films()) film.pause();
  }

  /** Stop the films, or play them on together; return false if there are none. */
  pause() {
    const films = this.films(), stops = this.playing();
    for (const film of films) {
      if (stops) film.pause(); else film.play().catch(() => {}); // a film that cannot be played says so by its error event
      if (film !== films[0]) film.currentTime = films[0].currentTime;
    }
    return films.length > 0;
  }

  reset() {
    [this.zoom, this.x, this.y] = [1, 0.5, 0.5];
  }

  fit() {
    this.reset();
    this.draw();
  }

  /** Zoom to one pixel of the first picture per screen pixel. */
  pixels() {
    this.zoomTo(this.whole());
  }

  whole() {
    const first = this.pictures.findIndex(Boolean);
    return first < 0 ? 1 : 1 / (this.fitting(first) * devicePixelRatio);
  }

  fitting(number) {
    const { width, height } = this.pictures[number], { clientWidth, clientHeight } = this.panes[number];
    return Math.min(clientWidth / width, clientHeight / height);
  }

  /** Set the zoom; keep the point under the pointer fixed. */
  zoomTo(zoom, pointer = null) {
    const number = this.under(pointer);
    if (number < 0) return;
    const whole = this.whole(), to = Math.min(Math.max(zoom, Math.min(1, whole) / 2), Math.max(1, whole) * 32);
    if (pointer) {
      const box = this.panes[number].getBoundingClientRect(), { width, height } = this.pictures[number];
      const from = this.fitting(number) * this.zoom, after = this.fitting(number) * to;
      this.x += (pointer.clientX - box.x - box.width / 2) * (1 / from - 1 / after) / width;
      this.y += (pointer.clientY - box.y - box.height / 2) * (1 / from - 1 / after) / height;
    }
    this.zoom = to;
    this.draw();
  }

  zoomBy(factor, pointer = null) {
    this.zoomTo(this.zoom * factor, pointer);
  }

  /** Move the pictures by screen pixels. */
  moveBy(across, down, number = this.under(null)) {
    if (number < 0) return;
    const scale = this.fitting(number) * this.zoom, { width, height } = this.pictures[number];
    this.x -= across / (scale * width);
    this.y -= down / (scale * height);
    this.draw();
  }

  /** Return the pane with a picture under the pointer, else the first pane with a picture, else -1. */
  under(pointer) {
    const inside = pointer && this.stage.dataset.mode !== "swipe" ? this.panes.findIndex((pane, number) => {
      const box = pane.getBoundingClientRect();
      return this.pictures[number] && box.left <= pointer.clientX && pointer.clientX < box.right &&
        box.top <= pointer.clientY && pointer.clientY < box.bottom;
    }) : -1;
    return inside < 0 ? this.pictures.findIndex(Boolean) : inside;
  }

  draw() {
    if (!this.stage.clientWidth) return;
    // Keep in view as much of each side as the largest pane can show; centre a side that fits.
    const half = [0, 0];
    const sizes = this.pictures.map((picture, number) => {
      if (!picture) return null;
      const scale = this.fitting(number) * this.zoom, size = [picture.width * scale, picture.height * scale];
      const { clientWidth, clientHeight } = this.panes[number];
      half[0] = Math.max(half[0], Math.min(0.5, clientWidth / 2 / size[0]));
      half[1] = Math.max(half[1], Math.min(0.5, clientHeight / 2 / size[1]));
      return size;
    });
    this.x = Math.min(Math.max(this.x, half[0]), 1 - half[0]);
    this.y = Math.min(Math.max(this.y, half[1]), 1 - half[1]);
    sizes.forEach((size, number) => {
      if (!size) return;
      const { image, width } = this.pictures[number], { clientWidth, clientHeight } = this.panes[number];
      const round = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio;
      image.style.width = `${size[0]}px`;
      image.style.height = `${size[1]}px`;
      image.style.left = `${round(clientWidth / 2 - this.x * size[0])}px`;
      image.style.top = `${round(clientHeight / 2 - this.y * size[1])}px`;
      // Show pixels unsmoothed when a picture is enlarged.
      image.classList.toggle("pixels", this.zoom > 1.001 && size[0] * devicePixelRatio / width > 1.999);
    });
    this.changed?.(this);
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoomBy(Math.exp(-Math.max(-200, Math.min(200, event.deltaY * lines)) * 0.002), event);
  }

  press(event) {
    if (event.button !== 0 || event.target.closest("button, a, [role=slider]")) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, pointer]) => pointer);
      const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY) || 1;
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.zoomBy(apart(event) / apart(before), middle);
    }
    const share = 1 / this.pointers.size;
    this.moveBy((event.clientX - before.clientX) * share, (event.clientY - before.clientY) * share, this.under(event));
    this.pointers.set(event.pointerId, event);
  }

  /** Apply a key to the pictures; return false if it does nothing. `move` is true if arrow keys move the pictures. */
  key({ key, target }, move) {
    const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (key === "z") this.zoom === 1 ? this.pixels() : this.fit();
    else if (key === "+" || key === "=") this.zoomBy(1.25);
    else if (key === "-") this.zoomBy(0.8);
    else if (key === " ") return !target.closest("button, a, summary, textarea") && this.pause();
    else if (move && key in moves) this.moveBy(...moves[key]);
    else return false;
    return true;
  }
}
