/** Return a text as a file name that every system takes. */
const safeName = (text) => text.replace(/[\/\\:*?"<>|\u0000-\u001f]/g, "_");

/** Dialog that downloads the pictures or films of several points: as one ZIP file, one by one, or as a list for other programs. */
class Download {
  /**
   * `elements` are those of the dialog, `title` is the sweep's, and `kind` is "picture" or "film". `choices` maps names of choices to functions that return
   * numbers of points; `label` names a point.
   */
  constructor(elements, { title, points, kind }, choices, label) {
    [this.elements, this.title, this.points, this.kind, this.choices, this.label] = [elements, title, points, kind, choices, label];
    this.isOnDisk = location.protocol === "file:";
    const { dialog, which, zip, list, folder } = elements;
    which.onchange = () => this.show();
    zip.onclick = () => (this.isOnDisk ? folder.click() : this.fetchAll());
    folder.onchange = () => this.packFolder([...folder.files]);
    list.onclick = () => saveFile("chosen.txt", this.files().map(({ path }) => `${path}\n`).join(""), "text/plain");
    dialog.addEventListener("close", () => { this.running = null; });
    elements.how.textContent = this.isOnDisk
      ? `A page on a disk may not read the files beside it. To save them, the browser asks for the folder ${title}: choose it. Nothing is sent anywhere.`
      : `The ${kind}s are fetched from this server, one after another.`;
  }

  /**
   * Return the picture of a point as {number, name, path, address, isFolder}, or null if it has none: the name that it is saved
   * under, its path in the sweep's folder, and the address of a file, which for a folder is that of a smaller picture, or null.
   */
  file(number) {
    const { id, picture, large, isFolder } = this.points[number], address = (isFolder ? large : picture) ?? large;
    if (!picture && !large) return null;
    const ending = /\.[A-Za-z0-9]{1,8}$/.exec(address ?? "")?.[0] ?? "";
    return { number, name: `${safeName(id)}${ending}`, path: decodeURIComponent(picture ?? large), address, isFolder };
  }

  /** Return the pictures of the points that are chosen. */
  files() {
    return this.choices[this.elements.which.value]().map((number) => this.file(number)).filter(Boolean);
  }

  open(which) {
    if (which) this.elements.which.value = which;
    this.show();
    this.elements.dialog.showModal();
  }

  show() {
    const { links, count, zip, list } = this.elements, files = this.files(), folders = files.filter(({ isFolder }) => isFolder).length;
    const nothing = this.choices[this.elements.which.value]().length ? `None of these points has a ${this.kind} yet.` : "No point is chosen: give points 4 stars or more, or make them favourites.";
    count.textContent = files.length ? `${files.length.toLocaleString("en")} ${this.kind}${files.length === 1 ? "" : "s"}${folders ? `; ${folders} of them are folders, of which the ZIP file has a smaller picture, the list the whole` : ""}` : nothing;
    zip.textContent = files.length === 1 ? `Save the ${this.kind}` : "One ZIP file";
    zip.disabled = list.disabled = !files.length;
    links.replaceChildren(...files.map(({ number, name, address, path }) => {
      const line = document.createElement("li"), link = document.createElement("a");
      Object.assign(link, { textContent: this.label(number), href: address ?? path, target: "_blank", rel: "noopener" });
      if (!this.isOnDisk) link.download = name;
      line.append(link);
      return line;
    }));
  }

  async fetchAll() {
    await this.pack(async ({ address, path }) => {
      const answer = address ? await fetch(address, { cache: "no-cache" }) : { ok: false, status: "no file" };
      if (!answer.ok) throw new Error(`${path} cannot be fetched (${answer.status})`);
      return answer.blob();
    });
  }

  async packFolder(chosen) {
    // The folder may be the sweep's, or one inside or around it: compare as many last parts as an address has.
    const wanted = this.files().filter(({ address }) => address), tails = new Map(wanted.map(({ address }) => [decodeURIComponent(address), null]));
    const depths = new Set([...tails.keys()].map((path) => path.split("/").length));
    for (const file of chosen) {
      const parts = (file.webkitRelativePath || file.name).split("/");
      for (const depth of depths) {
        const tail = parts.slice(-depth).join("/");
        if (tails.has(tail)) tails.set(tail, file);
      }
    }
    this.elements.folder.value = "";
    await this.pack(async ({ address, path }) => {
      const file = address && tails.get(decodeURIComponent(address));
      if (!file) throw new Error(`${path} is not in the folder that was chosen: choose ${this.title}, which has this page`);
      return file;
    });
  }

  /** Collect the pictures and save them, several as a ZIP file, unless the dialog is closed or another attempt begins. */
  async pack(contentOf) {
    const { count, zip } = this.elements, files = this.files(), attempt = this.running = {}, contents = [];
    zip.disabled = true;
    try {
      for (const file of files) {
        count.textContent = `${contents.length + 1} of ${files.length}: ${file.name}`;
        contents.push([file.name, await contentOf(file)]);
        if (this.running !== attempt) return;
      }
      if (files.length === 1) saveFile(...contents[0], contents[0][1].type);
      else {
        count.textContent = "writing the ZIP file";
        const content = await archive(contents);
        if (this.running !== attempt) return;
        saveFile(`${safeName(this.title).slice(0, 80)}.zip`, content, "application/zip");
      }
      count.textContent = `${files.length.toLocaleString("en")} ${this.kind}${files.length === 1 ? " is" : "s are"} saved`;
    } catch (error) {
      count.textContent = `Nothing was saved: ${error.message}`;
    } finally {
      if (this.running === attempt) zip.disabled = false;
    }
  }
}
