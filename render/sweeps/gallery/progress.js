/** Progress of a sweep that is going on: asks for the page's newest data, and shows how much is left. */
class Progress {
  /** `elements` are {bar, fill, text, reload} of the page; `renew` is called with new data, and returns false if it needs another page. */
  constructor(elements, { progress }, renew) {
    [this.elements, this.progress, this.renew] = [elements, progress, renew];
    this.asking = false;
    elements.reload.onclick = () => location.reload();
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.ask(); });
    setInterval(() => this.show(), 1000);
    this.show();
    this.wait();
  }

  get isGoing() {
    return this.progress?.state === "running";
  }

  /** Seconds since the page's file was written. */
  get age() {
    return Math.max(0, Date.now() / 1000 - this.progress.time);
  }

  wait() {
    // A page in the background asks once it is looked at.
    if (this.isGoing) setTimeout(() => { if (document.hidden) this.wait(); else this.ask().then(() => this.wait()); }, 1000 * Math.max(0.2, this.progress.interval));
  }

  async ask() {
    if (this.asking || !this.progress) return;
    this.asking = true;
    try {
      const wasGoing = this.isGoing, data = await newestData();
      this.progress = data.progress;
      if (!this.renew(data)) this.elements.reload.hidden = false;
      // Another command of the sweep has begun since.
      if (!wasGoing && this.isGoing) this.wait();
    } catch {
      // The next attempt may succeed; the text says how old the news are.
    } finally {
      this.asking = false;
      this.show();
    }
  }

  show() {
    const { bar, fill, text, reload } = this.elements, { state, share, running, seconds_left: left } = this.progress ?? {};
    bar.parentElement.hidden = !this.progress || (!this.isGoing && share === 1 && reload.hidden);
    if (bar.parentElement.hidden) return;
    const percent = Math.floor(share * 100), isOld = this.isGoing && this.age > Math.max(120, 6 * this.progress.interval);
    fill.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", percent);
    bar.setAttribute("aria-valuetext", `${percent} %`);
    const since = new Date(1000 * this.progress?.time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const words = isOld ? `no news since ${since}: it may have been broken off; the same command goes on`
      : !this.isGoing ? (share < 1 ? `${state}: the same command goes on` : "")
        : [running ? `${running.toLocaleString("en")} being dreamed` : "", left === null ? "time left not known yet" : left - this.age >= 1 ? `about ${spanText(left - this.age)} left` : "about to finish"].filter(Boolean).join(" · ");
    const line = [`${percent} %`, words, reload.hidden ? "" : "there are other points now"].filter(Boolean).join(" · ");
    if (text.textContent !== line) text.textContent = line;
  }
}

/** Return a number of seconds as text. */
function spanText(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(seconds < 10 ? 1 : 2))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
