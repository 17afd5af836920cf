/** Favourites of a sweep, by point name: stored in the browser if it permits that, and exported to a file. */
class Favourites {
  constructor({ storage, title, points, favourites }) {
    [this.storage, this.title, this.points] = [storage, title, points];
    [this.name, this.command, this.origin] = [favourites.file, favourites.command, favourites];
    this.names = new Set();
    this.read();
  }

  read() {
    try {
      this.names = new Set(JSON.parse(localStorage.getItem(this.storage)) ?? []);
    } catch {
      // Without storage, favourites last as long as the page is open.
    }
  }

  has(number) {
    return number in this.points && this.names.has(this.points[number].id);
  }

  /** Return the numbers of the favourites on the page: the browser may store others, from other commands of the sweep. */
  numbers() {
    return [...this.points.keys()].filter((number) => this.has(number));
  }

  /** Add or remove a favourite; return false if the browser does not store it. */
  toggle(number) {
    const { id } = this.points[number];
    if (!this.names.delete(id)) this.names.add(id);
    try {
      localStorage.setItem(this.storage, JSON.stringify([...this.names]));
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Return YAML for `sweep.points`, which reads the prints, and for `from`, which reads the rest. JSON strings are valid YAML,
   * except for some characters that end a line in YAML.
   */
  file() {
    const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const key = (text) => (/^[A-Za-z_][\w.]*$/.test(text) ? text : quoted(text));
    const comment = (text) => text.split(/[\r\n\u0085\u2028\u2029]/).map((line) => `# ${line}\n`).join("");
    const mapping = (words) => words.map((word) => {
      const equals = word.indexOf("=");
      return `${key(word.slice(0, equals))}: ${quoted(word.slice(equals + 1))}`;
    }).join(", ");
    // Points that differ only in size give one print.
    const list = (field) => [...new Set(this.numbers().map((number) => mapping(this.points[number][field])))];
    const points = list("words"), prints = list("listed"), { version, generation, shared, ranges } = this.origin;
    const lines = (name, items) => `${name}:${items.length ? "" : " []"}\n${items.map((item) => `- {${item}}\n`).join("")}`;
    const spans = Object.entries(ranges).map(([name, pair]) => `${key(name)}: ${JSON.stringify(pair)}`).join(", ");
    return comment(`Favourites of ${this.title}: ${points.length}. This dreams them as prints:`) + comment(`  ${this.command}`) +
      comment("This breeds new points from them:") + comment(`  ${this.origin.breed}`) +
      `version: ${quoted(version)}\ngeneration: ${generation}\nshared: {${mapping(shared)}}\nranges: {${spans}}\n` +
      lines("points", points) + lines("prints", prints);
  }

  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.file()], { type: "application/yaml" }));
    link.download = this.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}
