/** The favourites of a sweep, by the names of their points: kept by the browser, where it lets us, and written to a file. */
class Favourites {
  constructor({ storage, title, points, favourites }) {
    [this.storage, this.title, this.points] = [storage, title, points];
    [this.name, this.command] = [favourites.file, favourites.command];
    this.names = new Set();
    this.read();
  }

  read() {
    try {
      this.names = new Set(JSON.parse(localStorage.getItem(this.storage)) ?? []);
    } catch {
      // They last as long as the page is open.
    }
  }

  has(number) {
    return number in this.points && this.names.has(this.points[number].id);
  }

  /** Numbers of those on the page: the browser may know more, of other commands of the sweep. */
  numbers() {
    return [...this.points.keys()].filter((number) => this.has(number));
  }

  /** Makes a point a favourite, or none any more; false where the browser does not keep it. */
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

  /** YAML that `sweep.points` reads: JSON's strings are YAML's, but for some signs that end a line there. */
  file() {
    const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const key = (text) => (/^[A-Za-z_][\w.]*$/.test(text) ? text : quoted(text));
    const comment = (text) => text.split(/[\r\n\u0085\u2028\u2029]/).map((line) => `# ${line}\n`).join("");
    // Points that differ in nothing but their size are one print.
    const items = [...new Set(this.numbers().map((number) => this.points[number].listed.map((word) => {
      const equals = word.indexOf("=");
      return `${key(word.slice(0, equals))}: ${quoted(word.slice(equals + 1))}`;
    }).join(", ")))];
    return comment(`Favourites of ${this.title}: ${items.length}. This dreams them as prints:`) + comment(`  ${this.command}`) +
      items.map((item) => `- {${item}}\n`).join("");
  }

  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.file()], { type: "application/yaml" }));
    link.download = this.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}
